"""What a job computes: functions on tensors. No ray, no orchestrator, no streamlit."""
