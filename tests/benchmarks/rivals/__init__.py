"""What the laboratory is measured against."""
