//! shard.

/// What an application may do.
pub struct Calls<'a> {
    _core: core::marker::PhantomData<&'a mut ()>,
}
