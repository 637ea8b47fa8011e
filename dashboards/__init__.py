"""The Streamlit app. Reads `orchestrator.results.results` only."""
