/** Saved state of the rings comes from outside: each field is looked at before it is used. */
import type { Iova } from '../../../abi/device-host.ts';
import { VfioError } from '../../../base/errno.ts';
import { QUEUES, type ReceivedFrame } from '../parts.ts';
import { CONTEXT_WORDS, FRAME_MIN, PACKET_MAX, WRITE_BYTES, WRITES_MAX } from './transmit-limits.ts';
import type { TransmitQueueState, WriteBack } from './transmit-queue.ts';

const U16 = 0xffff;
const U32 = 0xffff_ffff;
/** The longest frame of a wire, with a frame check sequence. */
const FRAME_MAX = 16_384 + 4;
const TAG = 4;
const QUEUE_FRAMES_MAX = 512;
const PACKET_TYPES = 0x1fff;

function wrong(what: string): VfioError {
  return new VfioError('EINVAL', `the state of the rings of an 82576 has ${what}`, { fix: 'Save it again, with this version.' });
}

type Fields = Readonly<Record<string, unknown>>;

export function fieldsOf(value: unknown, what: string): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value) || ArrayBuffer.isView(value)) throw wrong(`no ${what}`);
  return value as Fields;
}

export function listOf(value: unknown, what: string, max = QUEUES): readonly unknown[] {
  if (!Array.isArray(value) || value.length > max) throw wrong(`no ${what}`);
  return value;
}

export function wholeOf(value: unknown, what: string, max = U32, min = 0): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max) throw wrong(`a wrong ${what}`);
  return value;
}

/** @param max nanoseconds */
export function timeOf(value: unknown, what: string, max: number): number {
  if (typeof value !== 'number' || !(value >= 0 && value <= max)) throw wrong(`a wrong ${what}`);
  return value;
}

export function flagOf(value: unknown, what: string): boolean {
  if (typeof value !== 'boolean') throw wrong(`a wrong ${what}`);
  return value;
}

function bytesOf(value: unknown, what: string, max: number): Uint8Array {
  if (!(value instanceof Uint8Array) || value.length > max) throw wrong(`wrong ${what}`);
  return value;
}

/** Frames that wait for a queue. @throws VfioError EINVAL */
export function framesOf(value: unknown): ReceivedFrame[] {
  return listOf(value, 'frames', QUEUE_FRAMES_MAX).map((one) => {
    const frame = fieldsOf(one, 'frame');
    const bytes = bytesOf(frame.bytes, 'bytes of a frame', FRAME_MAX);
    const vlan = wholeOf(frame.vlan, 'tag', U16, -1);
    return {
      bytes,
      offset: 0,
      length: bytes.length,
      looped: flagOf(frame.looped, 'origin of a frame'),
      vlan,
      // A tag beyond the frame would have the copy run past the driver's buffer.
      vlanOffset: wholeOf(frame.vlanOffset, 'place of a tag', vlan < 0 ? U16 : bytes.length - TAG),
      packetType: wholeOf(frame.packetType, 'packet type', PACKET_TYPES),
      rssType: wholeOf(frame.rssType, 'hash type', 0xf),
      rssHash: wholeOf(frame.rssHash, 'hash'),
      status: wholeOf(frame.status, 'status'),
      errors: wholeOf(frame.errors, 'error'),
      headerLength: wholeOf(frame.headerLength, 'length of headers', U16),
    };
  });
}

function iovaOf(value: unknown): Iova {
  if (typeof value === 'bigint' && value >= 0n && value < 1n << 64n) return value;
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
  throw wrong('a wrong address of a write-back');
}

function writeBackOf(value: unknown): WriteBack {
  const one = fieldsOf(value, 'write-back');
  const bytes = bytesOf(one.bytes, 'bytes of a write-back', WRITE_BYTES);
  if (bytes.length !== WRITE_BYTES) throw wrong('a short write-back');
  return { iova: iovaOf(one.iova), bytes };
}

/** @throws VfioError EINVAL */
export function transmitStateOf(value: unknown): TransmitQueueState {
  const state = fieldsOf(value, 'transmit queue');
  const contexts = listOf(state.contexts, 'contexts', CONTEXT_WORDS).map((word) => wholeOf(word, 'context'));
  const unwritten = listOf(state.unwritten, 'write-backs', WRITES_MAX).map(writeBackOf);
  if (state.packet === null) return { contexts, packet: null, unwritten };
  const packet = fieldsOf(state.packet, 'packet');
  const bytes = bytesOf(packet.bytes, 'bytes of a packet', PACKET_MAX);
  const command = wholeOf(packet.command, 'command');
  const options = wholeOf(packet.options, 'option');
  const dropped = flagOf(packet.dropped, 'packet');
  if (packet.sending === null) return { contexts, packet: { command, options, dropped, bytes, sending: null }, unwritten };
  const sending = fieldsOf(packet.sending, 'packet to send');
  if (bytes.length < FRAME_MIN) throw wrong('a short packet');
  return {
    contexts,
    unwritten,
    packet: {
      command,
      options,
      dropped,
      bytes,
      sending: {
        command: wholeOf(sending.command, 'command'),
        payload: wholeOf(sending.payload, 'payload'),
        frames: wholeOf(sending.frames, 'number of frames'),
      },
    },
  };
}
