/**
 * Asks the questions about /dev/iommu and /dev/vfio/devices, in the order of linux-7.3/iommufd-*.
 * A line is `question -> return value [ERRNO(number)]`, and `[offset]=value` for each 32-bit word
 * of the argument that the call has changed.
 */
import { IommufdCommand } from '../../../src/abi/iommufd.ts';
import { DeviceIoctl } from '../../../src/abi/vfio.ts';
import type { ManualClock } from '../../../src/base/clock.ts';
import { errnoName } from '../../../src/base/errno.ts';
import type { Capability } from '../../../src/engine/dma/process.ts';
import { fdinfoOf } from '../../../src/ioctl/fdinfo.ts';
import { MapFlags, OpenFlags, Prot } from '../../../src/ioctl/posix.ts';
import type { UserProcess } from '../../../src/ioctl/user-process.ts';
import { hex } from '../asker.ts';

export const PG = 4096;
/** The last 64-bit number. */
export const ALL = 2n ** 64n - 1n;
export const CONFIG = 7 * 2 ** 40;
/** `_IO(';', n)`. */
export const io = (n: number) => 0x3b00 + n;

const HANDLED_WORDS = 12;

/** A structure: numbers are 32-bit words, bigints 64-bit ones. */
export type Fields = readonly (number | bigint)[];

export function packed(fields: Fields, size = 0): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(
    Math.max(
      size,
      fields.reduce<number>((sum, f) => sum + (typeof f === 'bigint' ? 8 : 4), 0),
    ),
  );
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const field of fields) {
    if (typeof field === 'bigint') view.setBigUint64(at, BigInt.asUintN(64, field), true);
    else view.setUint32(at, field >>> 0, true);
    at += typeof field === 'bigint' ? 8 : 4;
  }
  return bytes;
}

export interface IommufdSubject {
  readonly user: UserProcess;
  readonly clock: ManualClock;
  /** The device's node, and that of a second device. */
  readonly cdev: string;
  readonly cdev2: string;
  readonly groupPath: string;
  readonly bdf: string;
  /** The device writes to memory by DMA. */
  deviceWrites(iova: bigint): void;
  /** Root gives both nodes to the asking user. */
  giveNodes(): void;
}

export abstract class IommufdAsker {
  readonly lines: string[] = [];
  protected readonly subject: IommufdSubject;
  /** The process that asks: the first one, or a child between `inChild`'s begin and end. */
  protected user: UserProcess;
  /** The iommufd of questions that name none. */
  protected io = -1;
  /** The last call's result and its argument. */
  protected result = 0;
  protected argument: DataView<ArrayBuffer> = new DataView(new ArrayBuffer(0));
  #children = 0;

  constructor(subject: IommufdSubject) {
    this.subject = subject;
    this.user = subject.user;
  }

  /** Ask everything; the answers are in `lines`. */
  abstract ask(): void;

  protected say(line: string): void {
    this.lines.push(line);
  }

  /** Print a question with its answer. @returns the answer */
  protected t(result: number, question: string): number {
    this.result = result;
    this.say(`${question} -> ${this.#tail(result)}`);
    return result;
  }

  #tail(result: number): string {
    return result < 0 ? `-1 ${errnoName(result) ?? '?'}(${-result})` : `${result}`;
  }

  /** One ioctl of a structure; prints the words that it changed, of the first `shown` bytes. */
  protected x(fd: number, request: number, fields: Fields | Uint8Array<ArrayBuffer>, question: string, shown?: number): DataView {
    const bytes = fields instanceof Uint8Array ? fields : packed(fields);
    const before = bytes.slice();
    this.result = this.user.ioctl(fd, request, bytes);
    const now = new DataView(bytes.buffer);
    const old = new DataView(before.buffer);
    let line = `${question} -> ${this.#tail(this.result)}`;
    let changed = 0;
    for (let at = 0; at + 4 <= Math.min(shown ?? bytes.length, 1024); at += 4) {
      if (old.getUint32(at, true) === now.getUint32(at, true)) continue;
      if (++changed > HANDLED_WORDS) {
        line += ' ...';
        break;
      }
      line += ` [${at}]=${hex(now.getUint32(at, true))}`;
    }
    this.say(line);
    this.argument = now;
    return now;
  }

  // ---- Files and memory

  protected openCdev(path = this.subject.cdev): number {
    return this.#must(this.user.open(path, OpenFlags.O_RDWR | OpenFlags.O_CLOEXEC), path);
  }

  protected openIommu(): number {
    return this.#must(this.user.open('/dev/iommu', OpenFlags.O_RDWR | OpenFlags.O_CLOEXEC), '/dev/iommu');
  }

  #must(result: number, what: string): number {
    if (result < 0) throw new Error(`${what}: ${errnoName(result)}`);
    return result;
  }

  protected anon(bytes: number, prot: number = Prot.READ | Prot.WRITE): number {
    return this.#must(this.user.mmap(bytes, prot, MapFlags.PRIVATE | MapFlags.ANONYMOUS), 'mmap');
  }

  /** A file of memory. */
  protected memfd(bytes: number): number {
    return this.#must(this.user.memfd(bytes), 'memfd_create');
  }

  /** 0, or the errno of an mmap. */
  protected mapped(...request: Parameters<UserProcess['mmap']>): number {
    return Math.min(this.user.mmap(...request), 0);
  }

  protected peek(address: number, bytes: number): Uint8Array<ArrayBuffer> {
    return this.user.memory.copyIn(address, bytes);
  }

  protected poke(address: number, bytes: Uint8Array): void {
    this.user.memory.copyOut(address, bytes);
  }

  /** The bytes of `fields` in memory of the process. @returns their address */
  protected put(fields: Fields, size = 0): number {
    const address = this.anon(PG);
    this.poke(address, packed(fields, size));
    return address;
  }

  /** `act` in a child of fork, which exits then. */
  protected inChild(act: () => void): void {
    const parent = this.user;
    this.user = parent.fork(parent.process.pid + ++this.#children);
    try {
      act();
    } finally {
      this.user.exit();
      this.user = parent;
    }
  }

  protected drop(capability: Capability, number: number): void {
    this.user.process.capabilities.delete(capability);
    this.t(0, `(drop capability ${number})`);
  }

  protected limit(pages: number): void {
    this.user.process.memlockLimit = pages * PG;
    this.t(0, `RLIMIT_MEMLOCK=${pages} pages`);
  }

  /** VmLck of /proc/self/status. The engine does not count VmPin. */
  protected vm(): void {
    this.say(`  VmLck:\t${`${this.user.process.lockedBytes / 1024}`.padStart(8)} kB`);
  }

  protected fdinfo(fd: number, what: string): void {
    this.say(`fdinfo of ${what}`);
    for (const line of fdinfoOf(this.user.files.get(fd)).split('\n').slice(0, -1))
      this.say(`  ${line.replace(': ', ':\t').replace('\t', ' ')}`);
  }

  // ---- Requests

  protected bind(device: number, iommufd: number, what: string): number {
    const answer = this.x(device, DeviceIoctl.BIND_IOMMUFD, [24, 0, iommufd, 0, 0n], `BIND ${what}`);
    return this.result === 0 ? answer.getUint32(12, true) : -1;
  }

  protected ioas(what: string, iommufd = this.io): number {
    return this.x(iommufd, io(IommufdCommand.IOAS_ALLOC), [12, 0, 0], `IOAS_ALLOC ${what}`).getUint32(8, true);
  }

  protected attach(device: number, pt: number, what: string): number {
    return this.x(device, DeviceIoctl.ATTACH_IOMMUFD_PT, [12, 0, pt], `ATTACH pt=${pt >>> 0} ${what}`).getUint32(8, true);
  }

  protected detach(device: number, what: string): void {
    this.x(device, DeviceIoctl.DETACH_IOMMUFD_PT, [8, 0], `DETACH ${what}`);
  }

  protected destroy(id: number, what: string, iommufd = this.io): void {
    this.x(iommufd, io(IommufdCommand.DESTROY), [8, id], `DESTROY ${id >>> 0} ${what}`);
  }

  /** @returns the address */
  protected map(
    ioas: number,
    flags: number,
    va: number | bigint,
    length: number | bigint,
    iova: number | bigint,
    what: string,
    iommufd = this.io,
  ): bigint {
    const fields = [40, flags, ioas, 0, BigInt(va), BigInt(length), BigInt(iova)];
    return this.x(iommufd, io(IommufdCommand.IOAS_MAP), fields, `IOAS_MAP ${what}`).getBigUint64(32, true);
  }

  protected unmap(ioas: number, iova: number | bigint, length: number | bigint, what: string): void {
    this.x(this.io, io(IommufdCommand.IOAS_UNMAP), [24, ioas, BigInt(iova), BigInt(length)], `IOAS_UNMAP ${what}`);
  }

  protected copy(to: number, at: number | bigint, from: number, iova: number | bigint, length: number, flags: number, what: string): void {
    const fields = [40, flags, to, from, BigInt(length), BigInt(at), BigInt(iova)];
    this.x(this.io, io(IommufdCommand.IOAS_COPY), fields, `IOAS_COPY ${what}`);
  }

  protected mapFile(
    ioas: number,
    fd: number,
    start: number | bigint,
    length: number | bigint,
    iova: number | bigint,
    flags: number,
    what: string,
  ): void {
    const fields = [40, flags, ioas, fd, BigInt(start), BigInt(length), BigInt(iova)];
    this.x(this.io, io(IommufdCommand.IOAS_MAP_FILE), fields, `MAP_FILE ${what}`);
  }

  /** HWPT_ALLOC. @returns the number of the domain */
  protected hwpt(
    device: number,
    pt: number,
    flags: number,
    what: string,
    [type, length, data, fault]: readonly number[] = [0, 0, 0, 0],
  ): number {
    const fields = [48, flags, device, pt, 0, 0, type!, length!, BigInt(data!), fault!, 0];
    return this.x(this.io, io(IommufdCommand.HWPT_ALLOC), fields, `HWPT_ALLOC ${what}`).getUint32(16, true);
  }

  protected option(id: number, op: number, object: number, value: number, what: string, iommufd = this.io): void {
    this.x(iommufd, io(IommufdCommand.OPTION), [24, id, op, object, BigInt(value)], `OPTION ${what}`);
  }

  protected vfioIoas(op: number, ioas: number, what: string): number {
    return this.x(this.io, io(IommufdCommand.VFIO_IOAS), [12, ioas, op], `VFIO_IOAS ${what}`).getUint32(4, true);
  }

  protected ranges(ioas: number, what: string): void {
    const list = this.anon(PG);
    const answer = this.x(this.io, io(IommufdCommand.IOAS_IOVA_RANGES), [32, ioas, 16, 0, BigInt(list), 0n], `IOVA_RANGES ${what}`);
    let line = '';
    if (this.result === 0) {
      const bytes = new DataView(this.peek(list, 16 * 16).buffer);
      for (let i = 0; i < answer.getUint32(8, true); i++)
        line += `  [${c(bytes.getBigUint64(i * 16, true))}-${c(bytes.getBigUint64(i * 16 + 8, true))}]`;
    }
    this.say(`${line}  align ${hex(answer.getBigUint64(24, true))}`);
  }

  protected allow(ioas: number, ranges: readonly bigint[] | number, what: string): void {
    const count = typeof ranges === 'number' ? Math.min(ranges, 1) : ranges.length / 2;
    const list = typeof ranges === 'number' ? ranges : this.put(ranges);
    this.x(this.io, io(IommufdCommand.IOAS_ALLOW_IOVAS), [24, ioas, count, 0, BigInt(list)], `ALLOW_IOVAS ${what}`);
  }

  protected hwInfo(device: number, flags: number, length: number, data: number, type: number, what: string): void {
    const answer = this.x(
      this.io,
      io(IommufdCommand.GET_HW_INFO),
      [40, flags, device, length, BigInt(data), type, 0, 0n],
      `GET_HW_INFO ${what}`,
    );
    if (this.result !== 0) return;
    const [kind, bytes, pasid, capabilities] = [
      answer.getUint32(24, true),
      answer.getUint32(12, true),
      answer.getUint8(28),
      answer.getBigUint64(32, true),
    ];
    this.say(`  type=${kind} len=${bytes} max_pasid_log2=${pasid} caps=${hex(capabilities)}`);
  }

  protected dirty(hwpt: number, flags: number, iova: number | bigint, length: number, page: number, bitmap: number, what: string): void {
    const fields = [48, hwpt, flags, 0, BigInt(iova), BigInt(length), BigInt(page), BigInt(bitmap)];
    this.x(this.io, io(IommufdCommand.HWPT_GET_DIRTY_BITMAP), fields, `GET_DIRTY_BITMAP ${what}`);
  }

  protected setDirty(hwpt: number, flags: number, what: string): void {
    this.x(this.io, io(IommufdCommand.HWPT_SET_DIRTY_TRACKING), [16, flags, hwpt, 0], `SET_DIRTY_TRACKING ${what}`);
  }

  protected getInfo(device: number, what: string, argsz = 20): void {
    this.x(device, DeviceIoctl.GET_INFO, packed([argsz], 20), what);
  }

  protected config(device: number, at: number, width: number, what: string): number {
    const bytes = new Uint8Array(4);
    this.t(this.user.pread(device, bytes, CONFIG + at, width), what);
    return new DataView(bytes.buffer).getUint32(0, true);
  }
}

/** C's %#llx within a range: 0 is `0`. */
const c = hex;
