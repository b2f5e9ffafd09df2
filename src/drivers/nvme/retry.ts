/**
 * Commands that a controller, or a namespace of it, cannot do yet. The controller says so, with Do
 * Not Retry clear, and the driver tries again.
 */
import { Status, StatusBit } from '../../abi/nvme-status.ts';
import { NvmeError } from './errors.ts';

const RETRIES = 5;
const RETRY_MS = 100;

/** The clock of the time between two tries. */
export interface Pauses {
  pause(ms: number): Promise<void>;
}

/** The result of `command`, which may be called several times. @throws what the last try throws */
export async function withRetries<T>(pauses: Pauses, command: () => Promise<T>): Promise<T> {
  return await command().catch((error: unknown) => retry(pauses, error, command));
}

/** The same, for a command that has failed once with `error`. */
export async function retry<T>(pauses: Pauses, error: unknown, command: () => Promise<T>): Promise<T> {
  let last = error;
  for (let i = 0; i < RETRIES && isForNow(last); i++) {
    await pauses.pause(RETRY_MS);
    try {
      return await command();
    } catch (next) {
      last = next;
    }
  }
  throw last;
}

function isForNow(error: unknown): boolean {
  if (!(error instanceof NvmeError) || !error.retryable) return false;
  const code = error.status & StatusBit.CODE;
  return code === Status.NAMESPACE_NOT_READY || code === Status.COMMAND_INTERRUPTED;
}
