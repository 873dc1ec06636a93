"""What each command answers. Handlers look and speak; a change is asked of the trader, never made here."""
