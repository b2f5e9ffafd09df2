/**
 * How long a message to a server may be: as long as its structure, or as its argsz, where it has
 * one. SPDK and libvfio-user's sample send the whole buffer that they keep for the reply. The
 * server refuses a longer message as soon as the header, or the count or argsz in the fixed part,
 * shows the excess. It drops the body as it arrives, and so finds the next message. It does not
 * wait for bytes that a peer announces and does not send.
 */
import { HEADER_BYTES } from '../abi/vfio-user.ts';
import { messageOf, messages } from './messages.ts';

const ARGSZ_BYTES = 4;

export class MessageSizes {
  /** Of the message, header included, by command. */
  readonly #most: Float64Array;

  constructor(maxDataBytes: number) {
    this.#most = new Float64Array(Math.max(...messages.map(({ number }) => number)) + 1).fill(HEADER_BYTES);
    for (const { number, size } of messages) {
      const { fixed, data = 0 } = size;
      this.#most[number] = HEADER_BYTES + fixed + (data === 'negotiated' ? maxDataBytes : data);
    }
  }

  /**
   * The number of bytes that the message whose header is at `head` may have; a message of an
   * unknown command is a header.
   *
   * @param have the number of its bytes that are there
   */
  most(view: DataView, head: number, have: number): number {
    const command = view.getUint16(head + 2, true);
    const most = command < this.#most.length ? this.#most[command]! : HEADER_BYTES;
    const size = view.getUint32(head + 4, true);
    if (size > most) return messageOf(command)?.size.argsz === true ? Math.max(most, byArgsz(view, head, have)) : most;
    // The handler of the command checks a whole message.
    return size <= have ? most : Math.min(most, byCount(command, view, head, have));
  }
}

/** Unknown until the bytes are there: until then the limit of all messages holds. */
function byArgsz(view: DataView, head: number, have: number): number {
  if (have < HEADER_BYTES + ARGSZ_BYTES) return Number.POSITIVE_INFINITY;
  return HEADER_BYTES + view.getUint32(head + HEADER_BYTES, true);
}

function byCount(command: number, view: DataView, head: number, have: number): number {
  const size = messageOf(command)?.size;
  if (size?.counted === undefined || have < HEADER_BYTES + size.fixed) return Number.POSITIVE_INFINITY;
  const { ref, unit } = size.counted;
  return HEADER_BYTES + size.fixed + view.getUint32(head + HEADER_BYTES + ref.at, true) * unit;
}
