//! Model <-> proto. Encoding is total; decoding validates and names the fault.
