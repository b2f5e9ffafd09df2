/**
 * QEMU reads the VERSION reply into a buffer as large as its own request. Longer capabilities do
 * not fit.
 */
export const QEMU_MAX_CAPABILITY_CHARS = 193;
