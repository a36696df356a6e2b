"""The miniature families: base models small enough for a laptop, trained by this project on pictures it draws itself."""
