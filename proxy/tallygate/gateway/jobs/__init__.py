"""Work that upstreams go on with after their answer: deferred when the exchange ends, polled, and charged once it is done."""
