"""Where a sweep's runs execute. An executor is handed units of run folders and leaves each with a final record."""
