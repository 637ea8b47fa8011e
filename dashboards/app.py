"""Entry point of the dashboard: `streamlit run dashboards/app.py`, or `robsweep dash`."""

import streamlit as st

st.set_page_config(page_title="robsweep", page_icon=":material/shield:", layout="wide")
st.navigation(
    [
        st.Page("app_pages/leaderboard.py", title="Leaderboard", icon=":material/leaderboard:"),
        st.Page("app_pages/tables.py", title="Tables", icon=":material/table:"),
    ],
    position="top",
).run()
