/** The thread of `ScriptedPeer`: one connection at a time, in a loop that blocks. */
import { parentPort } from 'node:worker_threads';
import { RegionFlags, RegionIndex } from '../../src/abi/vfio.ts';
import { HEADER_BYTES, HeaderFlags } from '../../src/abi/vfio-user.ts';
import { Errno, errnoOf, VfioError } from '../../src/base/errno.ts';
import { EventFd } from '../../src/sys/eventfd.ts';
import { MemfdMemory } from '../../src/sys/memfd.ts';
import type { OwnedFd } from '../../src/sys/owned-fd.ts';
import { UnixSocket } from '../../src/sys/unix-socket.ts';
import { closeAll, FrameReader } from '../../src/vfio-user/frames.ts';
import * as messages from '../../src/vfio-user/messages.ts';
import { Command } from '../../src/vfio-user/messages.ts';
import type { PeerAction, PeerRegion, PeerReport, PeerScript, SeenMessage } from './scripted-peer.ts';

const { READ, WRITE, MMAP } = RegionFlags;
const defaultRegions: Record<number, PeerRegion> = {
  [RegionIndex.BAR0]: { flags: READ | WRITE, size: 0x2000 },
  [RegionIndex.BAR2]: { flags: READ | WRITE | MMAP, size: 0x4000, shared: true },
  [RegionIndex.CONFIG]: { flags: READ | WRITE, size: 256 },
};
/** Vendor, device, COMMAND with memory decoding, no capabilities. */
const defaultConfig = [0x34, 0x12, 0xe8, 0x11, 2];
const defaultIrqs = [
  [7, 1],
  [9, 4],
  [1, 32],
  [9, 1],
  [9, 1],
] as const;

/** How long to wait for the client. */
const PATIENCE_MS = 120_000;

class Peer {
  readonly seen: SeenMessage[] = [];
  readonly #script: PeerScript;
  readonly #next = new Map<number, PeerAction[]>();
  readonly #main: UnixSocket;
  readonly #reader: FrameReader;
  #twin: UnixSocket | null = null;
  #twinReader: FrameReader | null = null;
  readonly #memory = new Map<number, Uint8Array>();
  readonly #shared = new Map<number, MemfdMemory>();
  readonly #eventfds = new Map<string, EventFd>();
  #askId = 0x8000;
  /** Commands that came before the answer to one of the peer's. */
  readonly #early: [Omit<SeenMessage, 'fds'>, OwnedFd[]][] = [];

  constructor(fd: number, script: PeerScript) {
    this.#script = script;
    this.#main = UnixSocket.fromNumber(fd);
    this.#reader = new FrameReader(this.#main, { maxMessageBytes: 2 ** 21 });
    for (const [command, actions] of Object.entries(script.on ?? {})) this.#next.set(Number(command), [...actions]);
    for (const [index, region] of Object.entries(this.#regions)) {
      const memory = region.shared === true ? (MemfdMemory.allocate(region.size) as MemfdMemory) : null;
      if (memory !== null) this.#shared.set(Number(index), memory);
      this.#memory.set(Number(index), memory?.windows[0] ?? new Uint8Array(region.size));
    }
    this.#memory.get(RegionIndex.CONFIG)?.set(script.config ?? defaultConfig);
  }

  get #regions(): Readonly<Record<number, PeerRegion>> {
    return this.#script.regions ?? defaultRegions;
  }

  run(): void {
    for (;;) {
      const [message, fds] = this.#early.shift() ?? [this.#receive(this.#reader), this.#reader.takeFds()];
      if (message === null) return;
      this.#note(message, fds.length);
      const action = this.#next.get(message.command)?.shift() ?? { do: 'answer' };
      if (!this.#act(action, message, fds)) return;
    }
  }

  /** The next message, null at the end. */
  #receive(reader: FrameReader): Omit<SeenMessage, 'fds'> | null {
    const stream = reader === this.#reader ? this.#main : this.#twin!;
    while (!reader.next()) {
      if (!stream.wait('readable', PATIENCE_MS)) throw new Error('the client is silent');
      if (reader.fill() === 0) return null;
    }
    const { view, start, size, bytes } = reader;
    return {
      id: view.getUint16(start, true),
      command: view.getUint16(start + 2, true),
      flags: view.getUint32(start + 8, true),
      error: view.getUint32(start + 12, true),
      payload: bytes.slice(start + HEADER_BYTES, start + size),
    };
  }

  #note(message: Omit<SeenMessage, 'fds'>, fds: number): void {
    this.seen.push({ ...message, fds });
  }

  /** False when the connection is at its end. */
  #act(action: PeerAction, message: Omit<SeenMessage, 'fds'>, fds: OwnedFd[]): boolean {
    const { reply, fds: replyFds } = this.#answer(message, fds);
    const send = (bytes: Uint8Array) => this.#send(this.#main, bytes, replyFds);
    try {
      switch (action.do) {
        case 'answer':
          if ((message.flags & HeaderFlags.NO_REPLY) === 0) send(reply);
          break;
        case 'nothing':
          break;
        case 'die':
          if (action.bytes !== undefined) send(reply.subarray(0, action.bytes));
          return false;
        case 'error': {
          const error = messages.encodeError(message.id, message.command, action.errno);
          const bytes = new Uint8Array(action.size ?? error.length);
          bytes.set(error);
          new DataView(bytes.buffer).setUint32(4, bytes.length, true);
          send(bytes);
          break;
        }
        case 'patch':
          reply.set(action.bytes, action.at);
          send(reply);
          break;
        case 'resize': {
          const bytes = new Uint8Array(reply.length + action.by);
          bytes.set(reply.subarray(0, bytes.length));
          new DataView(bytes.buffer).setUint32(4, bytes.length, true);
          send(bytes);
          break;
        }
        case 'send':
          send(Uint8Array.from(action.bytes));
          if (action.die === true) return false;
          break;
        case 'dribble':
          for (let at = 0; at < reply.length; at += action.bytes) send(reply.subarray(at, at + action.bytes));
          break;
        case 'ask':
          if (action.when === 'before') this.#ask(action);
          if (action.when === 'behind') {
            const command = this.#command(action);
            const both = new Uint8Array(reply.length + command.length);
            both.set(reply);
            both.set(command, reply.length);
            send(both);
            this.#hear();
            break;
          }
          send(reply);
          if (action.when === 'after') this.#ask(action);
          break;
        case 'signal':
          this.#eventfds.get(`${action.index}.${action.vector}`)?.signal();
          send(reply);
          break;
      }
    } finally {
      closeAll(replyFds);
    }
    return true;
  }

  #command(action: PeerAction & { do: 'ask' }): Uint8Array {
    return messages.encodeMessage(this.#askId++, action.command as Command, action.payload, action.flags ?? 0);
  }

  #ask(action: PeerAction & { do: 'ask' }): void {
    this.#send(this.#twin ?? this.#main, this.#command(action));
    if ((action.flags ?? 0) === 0) this.#hear();
  }

  /**
   * The client's answer to a command of the peer. The client may have sent a command of its own
   * before it saw that command.
   */
  #hear(): void {
    const reader = this.#twinReader ?? this.#reader;
    for (let message = this.#receive(reader); message !== null; message = this.#receive(reader)) {
      if ((message.flags & HeaderFlags.TYPE_MASK) === HeaderFlags.REPLY) {
        this.#note(message, 0);
        return;
      }
      this.#early.push([message, reader.takeFds()]);
    }
  }

  #send(stream: UnixSocket, bytes: Uint8Array, fds: readonly OwnedFd[] = []): void {
    for (let at = 0; at < bytes.length; ) {
      const sent = stream.send(bytes, at, bytes.length, at === 0 ? fds : []);
      if (sent >= 0) at += sent;
      else if (!stream.wait('writable', PATIENCE_MS)) throw new Error('the client reads nothing');
    }
  }

  /** The answer of a small device. */
  #answer(message: Omit<SeenMessage, 'fds'>, fds: OwnedFd[]): { reply: Uint8Array; fds: OwnedFd[] } {
    try {
      const { payload, fds: replyFds } = this.#do(message, fds);
      return { reply: messages.encodeMessage(message.id, message.command as Command, payload, HeaderFlags.REPLY), fds: replyFds };
    } catch (error) {
      if (!(error instanceof VfioError)) throw error;
      return { reply: messages.encodeError(message.id, message.command, Errno[errnoOf(error)]), fds: [] };
    } finally {
      closeAll(fds);
    }
  }

  #do({ command, payload }: Omit<SeenMessage, 'fds'>, fds: OwnedFd[]): { payload: Uint8Array; fds: OwnedFd[] } {
    const only = (bytes: Uint8Array) => ({ payload: bytes, fds: [] });
    switch (command) {
      case Command.VERSION:
        return this.#version();
      case Command.DEVICE_GET_INFO:
        return only(
          messages.encodeDeviceInfo({
            flags: this.#script.flags ?? 3,
            numRegions: this.#script.numRegions ?? 9,
            numIrqs: this.#irqs.length,
          }),
        );
      case Command.DEVICE_GET_REGION_INFO:
        return this.#regionInfo(payload);
      case Command.DEVICE_GET_IRQ_INFO: {
        const { index } = messages.decodeIrqInfo(payload);
        const irq = this.#irqs[index];
        if (irq === undefined) throw new VfioError('EINVAL', 'no such index');
        return only(messages.encodeIrqInfo({ index, flags: irq[0], count: irq[1] }));
      }
      case Command.DEVICE_SET_IRQS: {
        const request = messages.decodeSetIrqs(payload);
        fds.splice(0).forEach((fd, i) => {
          this.#eventfds.set(`${request.index}.${request.start + i}`, EventFd.fromFd(fd));
        });
        return only(new Uint8Array(0));
      }
      case Command.REGION_READ:
      case Command.REGION_WRITE:
        return only(this.#access(command, payload));
      case Command.DMA_UNMAP:
        return only(payload);
      case Command.DEVICE_FEATURE:
        throw new VfioError('ENOTTY', 'no features');
      default:
        return only(new Uint8Array(0));
    }
  }

  get #irqs(): readonly (readonly [number, number])[] {
    return this.#script.irqs ?? defaultIrqs;
  }

  #version(): { payload: Uint8Array; fds: OwnedFd[] } {
    const { json, version = [0, 2], twin = false } = this.#script;
    const usual =
      '{"capabilities":{"max_msg_fds":8,"max_data_xfer_size":1048576,"max_dma_maps":100,"pgsizes":4096' +
      `${twin ? ',"twin_socket":{"supported":true,"fd_index":0}' : ''}}}`;
    const text = json === undefined ? usual : json;
    const bytes = text === null ? new Uint8Array(0) : new TextEncoder().encode(`${text}\0`);
    const payload = new Uint8Array(4 + bytes.length);
    const view = new DataView(payload.buffer);
    view.setUint16(0, version[0], true);
    view.setUint16(2, version[1], true);
    payload.set(bytes, 4);
    if (!twin) return { payload, fds: [] };
    const [ours, theirs] = UnixSocket.pair();
    this.#twin = ours;
    this.#twinReader = new FrameReader(ours, { maxMessageBytes: 2 ** 21 });
    return { payload, fds: [theirs.release()] };
  }

  #regionInfo(payload: Uint8Array): { payload: Uint8Array; fds: OwnedFd[] } {
    const { argsz, index } = messages.decodeRegionInfoRequest(payload);
    if (index >= (this.#script.numRegions ?? 9)) throw new VfioError('EINVAL', 'no such region');
    const { flags, size, sparse } = this.#regions[index] ?? { flags: 0, size: 0, sparse: undefined };
    const sparseAreas = sparse?.map(([offset, length]) => ({ offset, size: length }));
    const info = { index, flags, size, ...(sparseAreas === undefined ? {} : { sparseAreas }) };
    const memory = this.#shared.get(index);
    const reply = messages.encodeRegionInfo(info, argsz, 0n);
    const whole = new DataView(reply.buffer).getUint32(0, true);
    return { payload: reply, fds: memory === undefined || whole > argsz ? [] : [memory.duplicateFd()] };
  }

  #access(command: number, payload: Uint8Array): Uint8Array {
    const view = messages.viewOf(payload);
    const offset = Number(view.getBigUint64(0, true));
    const region = view.getUint32(8, true);
    const count = view.getUint32(12, true);
    const memory = this.#memory.get(region);
    if (memory === undefined || offset + count > memory.length) throw new VfioError('EINVAL', 'not in a region');
    if (command === Command.REGION_READ) {
      return messages.encodeRegionAccess(BigInt(offset), region, count, memory.subarray(offset, offset + count));
    }
    memory.set(payload.subarray(16, 16 + count), offset);
    return messages.encodeRegionAccess(BigInt(offset), region, count);
  }

  close(): void {
    for (const [, fds] of this.#early) closeAll(fds);
    for (const eventfd of this.#eventfds.values()) eventfd[Symbol.dispose]();
    for (const memory of this.#shared.values()) memory[Symbol.dispose]();
    this.#reader[Symbol.dispose]();
    this.#twinReader?.[Symbol.dispose]();
    this.#twin?.[Symbol.dispose]();
    this.#main[Symbol.dispose]();
  }
}

parentPort!.on('message', ({ connection, fd, script }: { connection: number; fd: number; script: PeerScript }) => {
  const peer = new Peer(fd, script);
  let failed: string | null = null;
  try {
    peer.run();
  } catch (error) {
    // The client may disconnect at any time.
    if (!(error instanceof VfioError) || (error.code !== 'EPIPE' && error.code !== 'ECONNRESET')) failed = String((error as Error).stack);
  } finally {
    peer.close();
  }
  const report: PeerReport = { seen: peer.seen, failed };
  parentPort!.postMessage({ connection, report });
});
parentPort!.postMessage('ready');
