/**
 * Messages of one connection as events. Server, client and the proxy of `vfio trace` emit them all
 * here, so that each shows the same of a message: its structure without VF tokens, and data only
 * for readers that ask for it.
 */
import type { EventDetails } from '../abi/event.ts';
import { HEADER_BYTES, HeaderFlags } from '../abi/vfio-user.ts';
import { errnoName } from '../base/errno.ts';
import type { EventSource } from '../events/source.ts';
import { masked } from './messages/masked.ts';
import type { IsMemory, Payload } from './messages/message.ts';
import { commandName, messageOf } from './messages.ts';

/** Bytes of a message that an event holds without data. No structure that is used is longer. */
export const SHOWN_BYTES = 4096;

const registersOnly: IsMemory = () => false;

export class MessageEvents {
  readonly source: EventSource;
  /** Whether values of a region are data. Default: no region is known to be memory. */
  isMemory: IsMemory = registersOnly;
  readonly #payload: { -readonly [K in keyof Payload]: Payload[K] } = { view: new DataView(new ArrayBuffer(0)), at: 0, size: 0 };

  constructor(source: EventSource) {
    this.source = source;
  }

  /** Whether there is a reader: look here before `emit`. */
  get on(): boolean {
    return this.source.on;
  }

  /**
   * Emit the message at `at` of `bytes`, of which `view` is a view.
   *
   * @param have bytes of it that are there: all, or the header of a message that is refused
   * @param fds descriptors that come with it, and their names where they are known
   * @returns the event's `seq`
   */
  emit(
    toServer: boolean,
    twin: boolean,
    bytes: Uint8Array,
    view: DataView,
    at: number,
    have: number,
    fds: number,
    descriptors?: string,
  ): number {
    const { source } = this;
    const number = view.getUint16(at + 2, true);
    const flags = view.getUint32(at + 8, true);
    const row = messageOf(number);
    const isReply = (flags & HeaderFlags.TYPE_MASK) === HeaderFlags.REPLY;
    const failed = isReply && (flags & HeaderFlags.ERROR) !== 0;
    let shown = 0;
    if (failed) shown = have - HEADER_BYTES;
    else if (row !== undefined) shown = this.#shown(row, view, at, have, isReply);
    const end = Math.min(have, HEADER_BYTES + shown, SHOWN_BYTES);
    let from = at;
    let all = bytes;
    if (row?.masked !== undefined) {
      all = masked(bytes.subarray(at, at + have));
      from = 0;
    }
    const details: EventDetails<'message'> = {
      direction: toServer ? 'to server' : 'to client',
      id: view.getUint16(at, true),
      command: row?.name ?? commandName(number),
      type: failed ? 'error' : isReply ? 'reply' : (flags & HeaderFlags.NO_REPLY) !== 0 ? 'posted' : 'command',
      size: view.getUint32(at + 4, true),
      fds,
      ...(descriptors === undefined ? {} : { descriptors }),
      twin,
      ...(failed ? { errno: errnoText(view.getUint32(at + 12, true)) } : {}),
      bytes: all.slice(from, from + end),
      ...(source.data && end < have ? { data: all.subarray(from + end, from + have) } : {}),
    };
    return source.emit('message', details);
  }

  #shown(row: NonNullable<ReturnType<typeof messageOf>>, view: DataView, at: number, have: number, isReply: boolean): number {
    if (row.shown === undefined) return row.size.fixed;
    const payload = this.#payload;
    payload.view = view;
    payload.at = at + HEADER_BYTES;
    payload.size = have - HEADER_BYTES;
    return row.shown(payload, isReply, this.isMemory);
  }
}

function errnoText(errno: number): string {
  return errnoName(errno) ?? `errno ${errno}`;
}
