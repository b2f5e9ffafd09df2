/**
 * The outcome of a call as a word: a test lists the outcomes of many calls and compares the lists.
 */
import { expect } from 'vitest';
import { BusError } from '../../src/abi/bus-error.ts';
import { type ErrnoName, VfioError } from '../../src/base/errno.ts';

/**
 * The errno that `call` throws; `BusError` where a C program would get SIGBUS; 'none' when `call`
 * returns. Any other error is a fault of this package, and is thrown on.
 */
export function errnoFrom(call: () => unknown): ErrnoName | 'BusError' | 'none' {
  try {
    call();
  } catch (error) {
    if (error instanceof VfioError) return error instanceof BusError ? 'BusError' : error.code;
    throw error;
  }
  return 'none';
}

/** The VfioError that `call` throws, for a test of its message. */
export function refusal(call: () => unknown): VfioError {
  try {
    call();
  } catch (error) {
    if (error instanceof VfioError) return error;
    throw error;
  }
  throw new Error('the call returned');
}

/** Matches an error with this code, of whichever class: `toThrow(withCode('EBADF'))`. */
export function withCode(code: ErrnoName): unknown {
  return expect.objectContaining({ code });
}
