/** The state of a device that is moved, as a request has it. */

/** No device has this state: the other side answers for it. */
const NONE = 0xffff_ffff;

/** The state's number in 32 bits; for a value that is no such number, one that no device has. */
export function stateNumber(state: number): number {
  return Number.isInteger(state) && state >= 0 && state <= NONE ? state : NONE;
}
