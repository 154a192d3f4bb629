"""A whole partition, from one atomic read: what the oracle compares."""

from pipeline.ports import Book, RollupStore


async def whole(store: RollupStore, partition: int) -> Book | None:
    """Return every cell of a partition with its state, whether an index names it or not.

    Keys are listed, read in one MULTI, and listed again: the book is whole when no key came in
    between, for keys of cells are never deleted.
    """
    while True:
        listed = {address async for address in store.addresses(partition)}
        book = await store.read_addresses(partition, sorted(listed))
        if {address async for address in store.addresses(partition)} <= listed:
            return book
