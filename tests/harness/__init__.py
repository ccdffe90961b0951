"""What tests share: makers, fake servers, processes."""
