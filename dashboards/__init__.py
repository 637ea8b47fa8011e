"""The Streamlit app. Reads `orchestrator.results` only."""
