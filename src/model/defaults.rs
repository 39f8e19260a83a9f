//! Values that a stored row leaves out.

/// Whether `value` is the default of its type. For `skip_serializing_if`.
pub fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
