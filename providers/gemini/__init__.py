"""Gemini Live, on the Developer API and on Vertex."""
