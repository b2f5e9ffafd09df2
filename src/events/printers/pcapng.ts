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
import {
  block,
  concat,
  endOfOptions,
  interfaceBlock,
  option,
  PcapngBlock,
  PcapngOption,
  packetBlock,
  sectionBlock,
  textOption,
  timedHead,
} from '../../base/pcapng.ts';
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
const TEXT_CHARS = 1024;

/** epb_flags: from the server's side, whose inbound packets a client sends. */
const directions: { readonly [D in MessageEvent['direction']]: number } = { 'to server': 1, 'to client': 2 };

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
    return sectionBlock(boundedText(this.#about.program, TEXT_CHARS));
  }

  event(event: VfioEvent): Uint8Array {
    this.#lastNs = event.hostNs;
    if (event.kind === 'dropped') this.#missing += event.count;
    if (event.kind !== 'message') return nothing;
    const { bytes, data, size, direction, device } = event;
    const [number, description] = this.#interface(device);
    const head = bytes.subarray(0, SNAP_BYTES);
    const rest = data === undefined ? nothing : data.subarray(0, SNAP_BYTES - head.length);
    const options = [option(PcapngOption.PACKET_FLAGS, new Uint8Array([directions[direction] ?? 0, 0, 0, 0]))];
    const comment = [...missing(this.#missing), ...(event.twin ? ['twin socket'] : []), ...descriptors(event)].join('; ');
    if (comment !== '') options.push(text(PcapngOption.COMMENT, comment));
    this.#missing = 0;
    return concat([description, packetBlock(number, this.#epochNs(event.hostNs), [head, rest], size, options)]);
  }

  end(): Uint8Array {
    if (this.#missing === 0) return nothing;
    const [number, description] = this.#interface('machine');
    const statistics = block(PcapngBlock.STATISTICS, [
      timedHead(12, number, this.#epochNs(this.#lastNs)),
      text(PcapngOption.COMMENT, `${this.#missing} events are missing at the end`),
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
    return [number, interfaceBlock(LINKTYPE_USER0, SNAP_BYTES, [text(PcapngOption.IF_NAME, name)])];
  }

  #epochNs(hostNs: number): bigint {
    return this.#about.epochNs + BigInt(Math.round(hostNs));
  }
}

function missing(count: number): string[] {
  return count === 0 ? [] : [`${count} events are missing before it`];
}

function descriptors({ fds, descriptors: names }: MessageEvent): string[] {
  return fds === 0 ? [] : [`${fds} descriptor${fds === 1 ? '' : 's'}${names === undefined ? '' : `: ${names}`}`];
}

const nothing = new Uint8Array(0);

function text(code: number, value: string): Uint8Array {
  return textOption(code, boundedText(value, TEXT_CHARS));
}

export const pcapng: EventFormat = {
  name: 'pcapng',
  extensions: formatFiles.pcapng,
  help: 'messages of vfio-user, for Wireshark and tshark',
  kinds: ['message', 'dropped'],
  make: ({ about }) => new PcapngPrinter(about),
};
