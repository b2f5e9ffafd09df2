/**
 * Messages of one connection as events. Server, client and the proxy of `vfio trace` emit them all
 * here, so that each shows the same of a message: its structure without VF tokens, and data only
 * for readers that ask for it.
 */
import type { EventDetails } from '../abi/event.ts';
import { HEADER_BYTES, HeaderFlags } from '../abi/vfio-user.ts';
import { errnoName } from '../base/errno.ts';
import type { MessageShape } from '../events/ring.ts';
import type { EventSource } from '../events/source.ts';
import { masked } from './messages/masked.ts';
import type { IsMemory, Message, Payload } from './messages/message.ts';
import { decodeReason } from './messages/reason.ts';
import { commandName, messageOf, putHeader, RegionAccess } from './messages.ts';

/** Bytes of a message that an event holds without data. No structure that is used is longer. */
export const SHOWN_BYTES = 4096;

const WORD = 2 ** 32;
/** Header and structure of a register access. */
const ACCESS_BYTES = HEADER_BYTES + RegionAccess.structSize;
/** By flags: the messages that pack. */
const packedTypes: Readonly<Record<number, 'command' | 'posted' | 'reply'>> = {
  [HeaderFlags.COMMAND]: 'command',
  [HeaderFlags.COMMAND | HeaderFlags.NO_REPLY]: 'posted',
  [HeaderFlags.REPLY]: 'reply',
};

const registersOnly: IsMemory = () => false;

/** Behind the header of an error stands a reason; a careless peer may put data there. */
function reasonBytes(payload: Uint8Array): number {
  return decodeReason(payload) === null ? 0 : payload.length;
}

export class MessageEvents {
  readonly source: EventSource;
  /** Whether values of a region are data. Default: no region is known to be memory. */
  isMemory: IsMemory = registersOnly;
  /** Of messages that pack, by command, flags and way. */
  readonly #shapes: MessageShape[] = [];
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
    if (failed) shown = reasonBytes(bytes.subarray(at + HEADER_BYTES, at + have));
    else if (row !== undefined) shown = this.#shown(row, view, at, have, isReply);
    const end = Math.min(have, HEADER_BYTES + shown, SHOWN_BYTES);
    if (row !== undefined && fds === 0 && (end === have || !source.data)) {
      const seq = this.#emitPacked(row, toServer, twin, view, at, flags, end);
      if (seq !== 0) return seq;
    }
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

  /**
   * A register access, or a header alone, as numbers: they come by the hundred thousand.
   *
   * @returns 0 for every other message
   */
  #emitPacked(row: Message, toServer: boolean, twin: boolean, view: DataView, at: number, flags: number, end: number): number {
    const type = packedTypes[flags];
    const access =
      row.inPlace !== undefined && row.size.fixed === RegionAccess.structSize && end >= ACCESS_BYTES && end <= ACCESS_BYTES + 8;
    if (type === undefined || (!access && end !== HEADER_BYTES) || view.getUint32(at + 12, true) !== 0) return 0;
    const a = view.getUint16(at, true) * WORD + view.getUint32(at + 4, true);
    const shape = this.#shapeOf(row, toServer, twin, flags, type);
    if (!access) return this.source.message(shape, a, 0, 0, 0, end * WORD);
    const upper = view.getUint32(at + 20, true);
    const region = view.getUint32(at + 24, true);
    if (upper >= 2 ** 21 || region >= 2 ** 16) return 0;
    let low = 0;
    let high = 0;
    for (let i = end - ACCESS_BYTES - 1; i >= 4; i--) high = high * 256 + view.getUint8(at + ACCESS_BYTES + i);
    for (let i = Math.min(4, end - ACCESS_BYTES) - 1; i >= 0; i--) low = low * 256 + view.getUint8(at + ACCESS_BYTES + i);
    const offset = upper * WORD + view.getUint32(at + 16, true);
    return this.source.message(shape, a, offset, region * WORD + view.getUint32(at + 28, true), low, end * WORD + high);
  }

  #shapeOf({ name, number }: Message, toServer: boolean, twin: boolean, flags: number, type: 'command' | 'posted' | 'reply'): MessageShape {
    const key = ((number * 32 + flags) * 2 + (toServer ? 1 : 0)) * 2 + (twin ? 1 : 0);
    let shape = this.#shapes[key];
    if (shape === undefined) {
      const direction = toServer ? 'to server' : 'to client';
      const shared = { direction, command: name, type, fds: 0, twin } as const;
      shape = { kind: 'message', shared, unpack: (a, b, c, d, e) => unpacked(number, flags, a, b, c, d, e) };
      this.#shapes[key] = shape;
    }
    return shape;
  }

  #shown(row: Message, view: DataView, at: number, have: number, isReply: boolean): number {
    if (row.shown === undefined) return row.size.fixed;
    const payload = this.#payload;
    payload.view = view;
    payload.at = at + HEADER_BYTES;
    payload.size = have - HEADER_BYTES;
    return row.shown(payload, isReply, this.isMemory);
  }
}

/** As `#emitPacked` has packed it. */
function unpacked(command: number, flags: number, a: number, offset: number, place: number, low: number, e: number) {
  const [id, size] = [Math.floor(a / WORD), a % WORD];
  const whole = new DataView(new ArrayBuffer(ACCESS_BYTES + 8));
  putHeader(whole, 0, id, command, size, flags);
  const words = [offset % WORD, Math.floor(offset / WORD), Math.floor(place / WORD), place % WORD, low, e % WORD];
  for (const [i, word] of words.entries()) whole.setUint32(HEADER_BYTES + 4 * i, word, true);
  return { id, size, bytes: new Uint8Array(whole.buffer).slice(0, Math.floor(e / WORD)) };
}

function errnoText(errno: number): string {
  return errnoName(errno) ?? `errno ${errno}`;
}
