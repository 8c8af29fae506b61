"""What the tests stand on: real databases, started on demand and gone afterwards."""
