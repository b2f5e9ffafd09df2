/**
 * A vfio-user message without the VF token that it may carry: in VERSION, where a client shows it,
 * and in DEVICE_FEATURE, where the driver of a physical function sets it. Events hold messages, and
 * `vfio trace` shows them, in this form alone.
 */
import { HEADER_BYTES, Header } from '../../abi/vfio-user.ts';
import { viewOf } from '../../base/data-view.ts';
import { messageOf } from './table.ts';

/**
 * The same bytes when there is no token in them, else a copy of the same length with asterisks.
 * Replies are masked as commands are, and so are errors, whose reasons may quote a command.
 */
export function masked(message: Uint8Array): Uint8Array {
  if (message.length < HEADER_BYTES) return message;
  const row = messageOf(Header.command.get(viewOf(message), 0));
  if (row?.masked === undefined) return message;
  const payload = message.subarray(HEADER_BYTES);
  const shown = row.masked(payload);
  if (shown === payload) return message;
  const copy = message.slice();
  copy.set(shown, HEADER_BYTES);
  return copy;
}
