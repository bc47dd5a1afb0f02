//! Stage 2: annotation text → typed settings.
