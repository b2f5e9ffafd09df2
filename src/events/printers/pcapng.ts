/**
 * Captures that Wireshark reads: pcapng blocks with one vfio-user message each, link type USER0.
 * tools/vfio-user.lua dissects them. Each device is an interface of the capture.
 *
 * A message without its data is captured up to the end of its structure: the packet says how long
 * the whole message was.
 *
 * @see draft-ietf-opsawg-pcapng: section header, interface description, enhanced packet and
 *   interface statistics blocks
 */
import type { MessageEvent, VfioEvent } from '../../abi/event.ts';
import { printable } from '../../base/printable.ts';
import { boundedText } from './bounds.ts';
import { formatFiles } from './format-files.ts';
import type { EventFormat, EventPrinter, StreamAbout } from './printer.ts';

/** LINKTYPE_USER0: for private use. */
export const LINKTYPE_USER0 = 147;
/**
 * Longest packet that Wireshark takes (WTAP_MAX_PACKET_SIZE_STANDARD). Of longer messages the
 * beginning is kept.
 */
export const SNAP_BYTES = 262_144;
/** Devices beyond this number share an interface. */
const INTERFACES_MAX = 1024;

const Block = { SECTION: 0x0a0d0d0a, INTERFACE: 1, STATISTICS: 5, PACKET: 6 } as const;
const Option = { END: 0, COMMENT: 1, PACKET_FLAGS: 2, IF_NAME: 2, IF_TSRESOL: 9, SHB_USERAPPL: 4 } as const;
/** epb_flags: from the server's side, whose inbound packets a client sends. */
const directions: { readonly [D in MessageEvent['direction']]: number } = { 'to server': 1, 'to client': 2 };

const utf8 = new TextEncoder();

class PcapngPrinter implements EventPrinter {
  readonly #about: StreamAbout;
  readonly #interfaces = new Map<string, number>();
  /** Events that are missing before the next packet. */
  #missing = 0;
  #lastNs = 0;

  constructor(about: StreamAbout) {
    this.#about = about;
  }

  begin(): Uint8Array {
    const section = new Uint8Array(16);
    const view = new DataView(section.buffer);
    view.setUint32(0, 0x1a2b3c4d, true);
    view.setUint16(4, 1, true);
    // Its length is not known beforehand.
    view.setBigInt64(8, -1n, true);
    return block(Block.SECTION, [section, text(Option.SHB_USERAPPL, this.#about.program), endOfOptions]);
  }

  event(event: VfioEvent): Uint8Array {
    this.#lastNs = event.hostNs;
    if (event.kind === 'dropped') this.#missing += event.count;
    if (event.kind !== 'message') return nothing;
    const { bytes, data, size, direction, device } = event;
    const [number, description] = this.#interface(device);
    const captured = Math.min(bytes.length + (data?.length ?? 0), SNAP_BYTES);
    const head = this.#timed(20, number, event.hostNs);
    const view = new DataView(head.buffer);
    view.setUint32(12, captured, true);
    view.setUint32(16, Math.max(size, captured), true);
    const body = new Uint8Array(padded(captured));
    body.set(bytes.subarray(0, captured));
    if (data !== undefined) body.set(data.subarray(0, Math.max(0, captured - bytes.length)), Math.min(bytes.length, captured));
    const options = [option(Option.PACKET_FLAGS, new Uint8Array([directions[direction] ?? 0, 0, 0, 0]))];
    const comment = [...missing(this.#missing), ...(event.twin ? ['twin socket'] : []), ...descriptors(event)].join('; ');
    if (comment !== '') options.push(text(Option.COMMENT, comment));
    this.#missing = 0;
    return concat([description, block(Block.PACKET, [head, body, ...options, endOfOptions])]);
  }

  end(): Uint8Array {
    if (this.#missing === 0) return nothing;
    const [number, description] = this.#interface('machine');
    const statistics = block(Block.STATISTICS, [
      this.#timed(12, number, this.#lastNs),
      text(Option.COMMENT, `${this.#missing} events are missing at the end`),
      endOfOptions,
    ]);
    this.#missing = 0;
    return concat([description, statistics]);
  }

  /** The number of a device's interface, and its block where it is new. */
  #interface(device: string): readonly [number: number, description: Uint8Array] {
    const name = this.#interfaces.size < INTERFACES_MAX || this.#interfaces.has(device) ? device : 'other devices';
    const known = this.#interfaces.get(name);
    if (known !== undefined) return [known, nothing];
    const number = this.#interfaces.size;
    this.#interfaces.set(name, number);
    const body = new Uint8Array(8);
    const view = new DataView(body.buffer);
    view.setUint16(0, LINKTYPE_USER0, true);
    view.setUint32(4, SNAP_BYTES, true);
    const nanoseconds = option(Option.IF_TSRESOL, new Uint8Array([9]));
    return [number, block(Block.INTERFACE, [body, text(Option.IF_NAME, name), nanoseconds, endOfOptions])];
  }

  /** The beginning of a block: its interface and its time, in nanoseconds since 1970. */
  #timed(bytes: number, number: number, hostNs: number): Uint8Array {
    const head = new Uint8Array(bytes);
    const view = new DataView(head.buffer);
    const timeNs = BigInt.asUintN(64, this.#about.epochNs + BigInt(Math.round(hostNs)));
    view.setUint32(0, number, true);
    view.setUint32(4, Number(timeNs >> 32n), true);
    view.setUint32(8, Number(timeNs & 0xffff_ffffn), true);
    return head;
  }
}

function missing(count: number): string[] {
  return count === 0 ? [] : [`${count} events are missing before it`];
}

function descriptors({ fds, descriptors: names }: MessageEvent): string[] {
  return fds === 0 ? [] : [`${fds} descriptor${fds === 1 ? '' : 's'}${names === undefined ? '' : `: ${names}`}`];
}

const nothing = new Uint8Array(0);

function block(type: number, parts: readonly Uint8Array[]): Uint8Array {
  const ends = new Uint8Array(8);
  const out = concat([ends, ...parts, ends.subarray(4)]);
  const view = new DataView(out.buffer);
  view.setUint32(0, type, true);
  view.setUint32(4, out.length, true);
  view.setUint32(out.length - 4, out.length, true);
  return out;
}

function option(code: number, value: Uint8Array): Uint8Array {
  const out = new Uint8Array(4 + padded(value.length));
  const view = new DataView(out.buffer);
  view.setUint16(0, code, true);
  view.setUint16(2, value.length, true);
  out.set(value, 4);
  return out;
}

const endOfOptions = option(Option.END, nothing);

function text(code: number, value: string): Uint8Array {
  return option(code, utf8.encode(printable(boundedText(value, 1024))));
}

/** Blocks and options end at 4 bytes. */
function padded(length: number): number {
  return Math.ceil(length / 4) * 4;
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

export const pcapng: EventFormat = {
  name: 'pcapng',
  extensions: formatFiles.pcapng,
  help: 'messages of vfio-user, for Wireshark and tshark',
  kinds: ['message', 'dropped'],
  make: ({ about }) => new PcapngPrinter(about),
};
