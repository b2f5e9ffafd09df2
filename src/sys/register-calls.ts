/** Accesses to mapped registers: the addon's calls, of native/registers.c. */

/**
 * `mapping` is a number that `registersMap` gave. An access is one instruction of its width.
 * Results below 0 are errors: EINVAL for a mapping that is none, and for a place that is misaligned
 * or outside of it; EACCES where the mapping does not allow the access; EFAULT after SIGBUS.
 */
export interface RegisterCalls {
  /** `prot` is a sum of PROT_READ and PROT_WRITE, which are 1 and 2 as those of `Access`. */
  registersMap(fd: number, offset: number, length: number, prot: number): number;
  registersUnmap(mapping: number): number;
  /** Where it begins in this process. */
  registersAddress(mapping: number): number;
  load8(mapping: number, offset: number): number;
  load16(mapping: number, offset: number): number;
  load32(mapping: number, offset: number): number;
  load64(mapping: number, offset: number): bigint | number;
  store8(mapping: number, offset: number, value: number): number;
  store16(mapping: number, offset: number, value: number): number;
  store32(mapping: number, offset: number, value: number): number;
  store64(mapping: number, offset: number, value: bigint): number;
}
