"""The conductor: streams work to the pools until the campaign's stopping rule holds."""
