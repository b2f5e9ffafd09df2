/**
 * QEMU's netdev `stream`: frames over a stream socket, each behind its length in four bytes, high
 * byte first. One side listens and has one peer at a time, the other one connects, and tries again
 * every second while no peer is there.
 *
 * @see QEMU, net/stream.c, net/net.c: net_fill_rstate()
 */
import { Loss, MAX_FRAME } from '../../abi/wire.ts';
import type { ByteStream } from '../byte-stream.ts';
import { END_OF_STREAM, WOULD_BLOCK } from '../byte-stream.ts';
import type { OwnedFd } from '../owned-fd.ts';
import { type ChannelUser, FRAMES_PER_TURN, type FrameChannel, FULL, LOST, RETRY_MS, TAKEN } from './frame-channel.ts';

/** A socket that is connected. */
export type FrameStream = Pick<ByteStream, 'send' | 'receive' | 'listen' | 'onWritable'> & Disposable;

/** How a channel gets its peers. */
export interface StreamSource extends Disposable {
  readonly name: string;
  /**
   * Calls `connected` with each peer. A source that listens calls it for each that comes; another
   * one when `wanted` was called, once.
   */
  start(connected: (stream: FrameStream) => void, failed: (why: string) => void): void;
  /** The peer has gone: a new one is welcome. Absent: there is no other one. */
  wanted?(): void;
}

const HEADER = 4;
/** The longest frame of QEMU (NET_BUFSIZE, net/net.h). A longer one is not the protocol. */
const LONGEST = 4096 + 65_536;
const READ_BYTES = 2 ** 18;

export class StreamChannel implements FrameChannel {
  readonly name: string;
  readonly #source: StreamSource;
  #user: ChannelUser | null = null;
  #stream: FrameStream | null = null;
  #retry: Disposable | null = null;
  #room: Disposable | null = null;
  #reported = '';
  /** Bytes of frames that have come, from `#start` on to `#end`. */
  readonly #bytes = new Uint8Array(READ_BYTES);
  #start = 0;
  #end = 0;
  /** Bytes that are left of a frame that is too long. */
  #skip = 0;
  /** A frame and its header; the part that the socket did not take waits. */
  readonly #frame = new Uint8Array(HEADER + MAX_FRAME);
  #sent = 0;
  #length = 0;
  /** Descriptors that a peer has sent, which this protocol has not: they are closed. */
  readonly #descriptors: OwnedFd[] = [];

  constructor(source: StreamSource) {
    this.#source = source;
    this.name = source.name;
  }

  get up(): boolean {
    return this.#stream !== null;
  }

  start(user: ChannelUser): void {
    this.#user = user;
    this.#source.start(
      (stream) => this.#connected(stream),
      (why) => {
        this.#reportOnce(why);
        this.#again();
      },
    );
    this.#source.wanted?.();
  }

  #reportOnce(line: string): void {
    if (line !== this.#reported) this.#user?.report(line);
    this.#reported = line;
  }

  #again(): void {
    if (this.#source.wanted === undefined) return;
    this.#retry ??= this.#user!.clock.after(RETRY_MS, () => {
      this.#retry = null;
      this.#source.wanted!();
    });
  }

  #connected(stream: FrameStream): void {
    // QEMU, too, has one peer at a time; a further one is refused, so that it knows.
    if (this.#stream !== null) {
      stream[Symbol.dispose]();
      return;
    }
    this.#stream = stream;
    this.#start = this.#end = this.#skip = this.#sent = this.#length = 0;
    this.#reportOnce('the peer is there');
    stream.listen(() => this.#read(stream));
    this.#user!.carrierChanged();
  }

  #read(stream: FrameStream): boolean {
    let frames = 0;
    try {
      while (frames < FRAMES_PER_TURN && stream === this.#stream) {
        if (this.#start > 0) {
          this.#bytes.copyWithin(0, this.#start, this.#end);
          this.#end -= this.#start;
          this.#start = 0;
        }
        const got = stream.receive(this.#bytes, this.#end, READ_BYTES, this.#descriptors);
        if (this.#descriptors.length > 0) for (const fd of this.#descriptors.splice(0)) fd[Symbol.dispose]();
        if (got === WOULD_BLOCK) return true;
        if (got === END_OF_STREAM) {
          this.#hangUp('the peer has closed the connection');
          return false;
        }
        this.#end += got;
        frames += this.#takeFrames(stream);
      }
    } catch (error) {
      this.#hangUp(error instanceof Error ? error.message : String(error));
      return false;
    }
    return stream === this.#stream;
  }

  /** @returns frames that were complete */
  #takeFrames(stream: FrameStream): number {
    let frames = 0;
    const bytes = this.#bytes;
    while (stream === this.#stream) {
      const skipped = Math.min(this.#skip, this.#end - this.#start);
      this.#skip -= skipped;
      this.#start += skipped;
      if (this.#end - this.#start < HEADER) break;
      const at = this.#start;
      const length = ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;
      if (length > LONGEST) {
        this.#hangUp(`the peer has sent a frame of ${length} bytes, which no peer that speaks this protocol does`);
        break;
      }
      if (length > MAX_FRAME) {
        this.#user!.tally.miss(Loss.TOO_LONG);
        this.#start += HEADER;
        this.#skip = length;
        continue;
      }
      if (this.#end - at - HEADER < length) break;
      this.#start += HEADER + length;
      frames++;
      if (length > 0) this.#user!.arrived(bytes, at + HEADER, length);
    }
    return frames;
  }

  #hangUp(why: string): void {
    const stream = this.#stream;
    if (stream === null) return;
    this.#stream = null;
    this.#room?.[Symbol.dispose]();
    this.#room = null;
    stream[Symbol.dispose]();
    if (this.#sent < this.#length) this.#user!.tally.lose(Loss.NO_CARRIER);
    this.#sent = this.#length = 0;
    this.#reportOnce(why);
    this.#again();
    this.#user!.carrierChanged();
  }

  send(bytes: Uint8Array, offset: number, length: number): number {
    if (this.#stream === null) {
      this.#user!.tally.lose(Loss.NO_CARRIER);
      return LOST;
    }
    if (this.#sent < this.#length) return FULL;
    const frame = this.#frame;
    frame[0] = frame[1] = 0;
    frame[2] = length >>> 8;
    frame[3] = length & 0xff;
    frame.set(bytes.subarray(offset, offset + length), HEADER);
    this.#length = HEADER + length;
    this.#sent = 0;
    this.#flush();
    return TAKEN;
  }

  #flush(): void {
    const stream = this.#stream!;
    try {
      const sent = stream.send(this.#frame, this.#sent, this.#length);
      if (sent !== WOULD_BLOCK) this.#sent += sent;
    } catch {
      // The reader finds out why, and hangs up.
      this.#user!.clock.after(0, () => {
        if (stream === this.#stream) this.#hangUp('the peer has gone');
      });
      return;
    }
    if (this.#sent === this.#length) return;
    this.#room ??= stream.onWritable(() => {
      this.#room = null;
      if (stream !== this.#stream) return;
      this.#flush();
      if (this.#sent === this.#length) this.#user!.onRoom();
    });
  }

  [Symbol.dispose](): void {
    this.#retry?.[Symbol.dispose]();
    this.#room?.[Symbol.dispose]();
    this.#stream?.[Symbol.dispose]();
    this.#stream = null;
    this.#source[Symbol.dispose]();
  }
}
