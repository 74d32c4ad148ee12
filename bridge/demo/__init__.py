"""The demonstration: a person in a process of its own talks with the model in a real room."""
