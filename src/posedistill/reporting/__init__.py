"""Tables, figures and pictures that the notebooks show. Each module is imported by itself."""
