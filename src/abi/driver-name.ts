/** A name that a driver can have, which is a folder of sysfs, and a word of modprobe. */
export function isDriverName(name: string): boolean {
  return /^(?!-)[^/\p{Cc}]{1,64}$/u.test(name) && name !== '.' && name !== '..';
}
