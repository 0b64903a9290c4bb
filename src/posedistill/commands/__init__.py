"""The commands that read or write the pipeline's models: predict, calibrate, convert, export."""
