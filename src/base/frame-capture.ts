/** Captures of Ethernet frames, for Wireshark: a pcapng file that is written as the frames come. */
import { interfaceBlock, option, PacketDirection, PcapngOption, packetBlock, sectionBlock, textOption } from './pcapng.ts';

export const LINKTYPE_ETHERNET = 1;
/** Longest packet that Wireshark takes (WTAP_MAX_PACKET_SIZE_STANDARD). */
const SNAP_BYTES = 262_144;
const NAME_CHARS = 1024;

export type FrameDirection = keyof typeof directions;

/** From the port: a port receives what is inbound. */
const directions = { unknown: PacketDirection.UNKNOWN, inbound: PacketDirection.INBOUND, outbound: PacketDirection.OUTBOUND } as const;

export interface CapturedPort {
  /** As Wireshark shows it. */
  readonly name: string;
  /** Six bytes. Default: the capture does not say it. */
  readonly mac?: Uint8Array;
}

/**
 * Makes the pieces of a capture of `ports`: `begin` first, then a piece for each frame. Frames have
 * no frame check sequence.
 */
export class FrameCapture {
  readonly #program: string;
  readonly #ports: readonly CapturedPort[];
  readonly #flags = Object.fromEntries(
    Object.entries(directions).map(([name, value]) => [name, option(PcapngOption.PACKET_FLAGS, new Uint8Array([value, 0, 0, 0]))]),
  ) as Readonly<Record<FrameDirection, Uint8Array>>;

  /** @param program that writes it: `vfio-ts 0.1.0` */
  constructor(program: string, ports: readonly CapturedPort[]) {
    this.#program = program;
    this.#ports = ports;
  }

  begin(): Uint8Array[] {
    const interfaces = this.#ports.map(({ name, mac }) => {
      const options = [textOption(PcapngOption.IF_NAME, name.slice(0, NAME_CHARS))];
      if (mac !== undefined) options.push(option(PcapngOption.IF_MAC_ADDRESS, mac));
      return interfaceBlock(LINKTYPE_ETHERNET, SNAP_BYTES, options);
    });
    return [sectionBlock(this.#program), ...interfaces];
  }

  /** @param timeNs since 1970   @param port its place among the ports */
  frame(bytes: Uint8Array, timeNs: bigint, direction: FrameDirection = 'unknown', port = 0): Uint8Array {
    return packetBlock(port, timeNs, [bytes.subarray(0, SNAP_BYTES)], bytes.length, [this.#flags[direction]]);
  }
}
