"""Pages in the browser and what they ask; the wall that several people share. Nothing is decided here."""
