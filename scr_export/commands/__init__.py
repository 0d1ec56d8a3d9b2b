"""One module for each command. Each reads as the story of what the command does."""
