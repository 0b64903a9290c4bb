"""Figures and tables of what models predict: where they are wrong, what distillation changes."""
