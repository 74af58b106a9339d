"""Teachers, distillation, and the loop they share."""
