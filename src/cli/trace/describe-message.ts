/**
 * A vfio-user message as one line of text, by its row in the table of messages. It never throws: a
 * message that does not fit its row is shown as bytes.
 */
import type { MessageEvent } from '../../abi/event.ts';
import { HEADER_BYTES, Header, HeaderFlags } from '../../abi/vfio-user.ts';
import { errnoName } from '../../base/errno.ts';
import { masked } from '../../vfio-user/messages/masked.ts';
import { printable, shownBytes, wordsOf } from '../../vfio-user/messages/words.ts';
import { commandName, decodeReason, messageOf, viewOf } from '../../vfio-user/messages.ts';

export interface Described {
  readonly id: number;
  readonly command: string;
  readonly kind: 'command' | 'posted' | 'reply' | 'error';
  /** Its payload in words. */
  readonly text: string;
}

/** `->  #12 REGION_READ            CONFIG+0x0, 4 bytes`: an arrow to the server or back. */
export function lineOf(event: MessageEvent): string {
  const { direction, twin, id, command, type, descriptors } = event;
  const arrow = direction === 'to server' ? '->' : '<-';
  const what = `${command}${type === 'command' ? '' : ` ${type}`}`;
  const along = descriptors === undefined ? '' : `  with ${descriptors}`;
  return `${arrow}${twin ? ' twin' : ''}  #${String(id).padEnd(5)} ${what.padEnd(28)} ${describeEvent(event)}${along}`.trimEnd();
}

/** The payload of a message's event in words, with its data where the event has it. */
export function describeEvent({ bytes, data, size }: MessageEvent): string {
  return describeMessage(data === undefined ? bytes : Buffer.concat([bytes, data]), size).text;
}

/**
 * @param seen the beginning of it, header included, as it was on the wire
 * @param size bytes of all of it
 */
export function describeMessage(seen: Uint8Array, size = seen.length): Described {
  const message = masked(seen);
  if (message.length < HEADER_BYTES) return { id: 0, command: '?', kind: 'error', text: `${message.length} bytes, less than a header` };
  const { id, command, flags, error } = Header.decode(viewOf(message));
  const payload = message.subarray(HEADER_BYTES);
  const whole = Math.max(size - HEADER_BYTES, payload.length);
  const isReply = (flags & HeaderFlags.TYPE_MASK) === HeaderFlags.REPLY;
  const head = { id, command: commandName(command) };
  if (isReply && (flags & HeaderFlags.ERROR) !== 0) return { ...head, kind: 'error', text: describeError(error, payload) };
  const row = messageOf(command);
  const kind = isReply ? 'reply' : (flags & HeaderFlags.NO_REPLY) !== 0 ? 'posted' : 'command';
  if (row === undefined) return { ...head, kind, text: shownBytes(payload, whole) };
  try {
    return { ...head, kind, text: wordsOf(isReply ? row.reply : row.command, payload, whole) };
  } catch (problem) {
    return { ...head, kind, text: `malformed (${(problem as Error).message}): ${shownBytes(payload, whole)}` };
  }
}

/** `EBUSY: edu is in use (Disconnect that client first.)` */
function describeError(error: number, payload: Uint8Array): string {
  const name = errnoName(error) ?? `errno ${error}`;
  const reason = decodeReason(payload);
  if (reason === null) return name;
  return printable(`${name}: ${reason.message}${reason.fix === undefined ? '' : ` (${reason.fix})`}`);
}
