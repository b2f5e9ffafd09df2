/**
 * System calls on an open file, for any caller: a simulated process (`UserProcess`) or a real one.
 * Each function returns what the call returns, and throws the
 * `VfioError` whose errno the caller gets.
 */
import type { RegionMapping } from '../abi/device.ts';
import { viewOf } from '../base/data-view.ts';
import { VfioError } from '../base/errno.ts';
import type { CdevFile } from '../engine/machine/cdev-file.ts';
import { type Caller, describeFile, type Handler } from './caller.ts';
import { cdevIoctls } from './cdev-ioctls.ts';
import { containerIoctl } from './container-ioctls.ts';
import { deviceMap, deviceRead, deviceWrite } from './device-access.ts';
import { deviceIoctls } from './device-ioctls.ts';
import type { EventCounter } from './event-counter.ts';
import type { FileBody, OpenFile } from './file-table.ts';
import { groupIoctls } from './group-ioctls.ts';
import { iommufdIoctl } from './iommufd-ioctls.ts';
import { migrationIoctls, migrationRead, migrationWrite } from './migration-file.ts';
import { OpenFlags, Prot } from './posix.ts';
import type { IoctlArgument, UserBuffer } from './user-buffer.ts';
import { kvmIoctls, vmDeviceIoctls, vmIoctls } from './vm-ioctls.ts';

/** Memory of the caller: its bytes, or a number for an address where nothing is mapped. */
export type UserMemory = Uint8Array | number;

/** linux/fs.h: longer reads and writes are cut to this. */
const MAX_RW_COUNT = 0x7fff_f000;

/**
 * ioctl(2).
 *
 * @param user the argument as memory
 * @param argument the argument as a number, for requests that take one
 * @throws VfioError ENOTTY for a request that the file does not know; else the errno of
 *   linux/vfio.h or linux/iommufd.h
 */
export function ioctlOf({ body }: OpenFile, request: number, caller: Caller, user: UserBuffer, argument: IoctlArgument): number {
  if (body.kind === 'container') return containerIoctl(body.container, request, caller, user, argument);
  if (body.kind === 'iommufd') return iommufdIoctl(body.iommufd, request, caller, user, argument);
  const handler = handlerOf(body, request);
  if (handler !== undefined) return handler(caller, user, argument);
  throw new VfioError(
    'ENOTTY',
    `request 0x${request.toString(16)} means nothing to ${body.kind === 'null' ? 'this file' : `a ${body.kind}`}`,
  );
}

/** read(2): from the file's own position, which it moves. */
export function readOf(file: OpenFile, into: UserMemory, count: number): number {
  const { body, device } = file;
  file.checkReadable();
  if (device !== null) {
    const n = deviceRead(device, file.position, into, checkCount(count));
    file.position += n;
    return n;
  }
  switch (body.kind) {
    case 'eventfd':
      return readCounter(body.counter, into, count);
    case 'fault-queue':
      return body.queue.read(file.position, checkCount(count));
    case 'migration':
      return migrationRead(body.stream, into, checkCount(count));
    case 'null':
      return Math.min(checkCount(count), 0);
    default:
      throw new VfioError('EINVAL', `${describeFile(file)} cannot be read`);
  }
}

/** write(2): at the file's own position, which it moves. */
export function writeOf(file: OpenFile, from: UserMemory, count: number): number {
  const { body, device } = file;
  file.checkWritable();
  if (device !== null) {
    const n = deviceWrite(device, file.position, from, checkCount(count));
    file.position += n;
    return n;
  }
  switch (body.kind) {
    case 'eventfd':
      return writeCounter(body.counter, from, count);
    case 'fault-queue':
      return body.queue.write(checkCount(count));
    case 'migration':
      return migrationWrite(body.stream, from, checkCount(count));
    case 'null':
      return checkCount(count);
    default:
      throw new VfioError('EINVAL', `${describeFile(file)} cannot be written`);
  }
}

/**
 * pread(2).
 *
 * @throws VfioError ESPIPE for an eventfd and a migration stream
 */
export function preadOf(file: OpenFile, into: UserMemory, offset: number | bigint, count: number): number {
  const at = checkOffset(offset);
  const length = checkCount(count);
  file.checkReadable();
  const { device } = file;
  if (device !== null) return deviceRead(device, at, into, length);
  return withoutOffsets(file, 0);
}

/** pwrite(2). @throws VfioError as `preadOf` */
export function pwriteOf(file: OpenFile, from: UserMemory, offset: number | bigint, count: number): number {
  const at = checkOffset(offset);
  const length = checkCount(count);
  file.checkWritable();
  const { device } = file;
  if (device !== null) return deviceWrite(device, at, from, length);
  return withoutOffsets(file, length);
}

/**
 * mmap(2) of a device.
 *
 * @param size whole pages
 * @param prot `Prot`
 * @throws VfioError EACCES for access that the file was not opened for; EINVAL for a private
 * mapping, as which Linux takes every mapping of a file that cannot be written; ENODEV for another
 * kind of file; as `deviceMap`
 */
export function mapOf(file: OpenFile, offset: number, size: number, prot: number, shared: boolean): RegionMapping {
  const { access, body } = file;
  if (body.kind === 'dmabuf') throw new VfioError('EINVAL', 'mmap: a DMA buffer of a BAR is for devices; map the BAR itself');
  if (access === OpenFlags.O_WRONLY) throw new VfioError('EACCES', 'mmap: the file was opened for writing only');
  if (access === OpenFlags.O_RDONLY && shared && (prot & Prot.WRITE) !== 0)
    throw new VfioError('EACCES', 'mmap: the file was opened for reading only');
  if (body.kind === 'iommufd')
    throw shared
      ? new VfioError('ENXIO', 'mmap: an iommufd has nothing there')
      : new VfioError('EINVAL', 'mmap: an iommufd is mapped MAP_SHARED only');
  const { device } = file;
  if (device === null) throw new VfioError('ENODEV', `mmap: ${describeFile(file)} has no memory`);
  return deviceMap(device, offset, size, shared && access === OpenFlags.O_RDWR);
}

/** A file offset as a number: no file here reaches 2^53. @throws VfioError EINVAL */
export function checkOffset(offset: number | bigint): number {
  const at = Number(offset);
  if (!Number.isInteger(at) || at < 0 || at > 2 ** 63) throw new VfioError('EINVAL', `a file offset of ${offset}`);
  return at;
}

function withoutOffsets(file: OpenFile, ofNull: number): number {
  switch (file.body.kind) {
    case 'null':
      return ofNull;
    case 'iommufd':
    case 'fault-queue':
    case 'eventfd':
    case 'migration':
      throw new VfioError('ESPIPE', `${describeFile(file)} has no offsets`);
    default:
      throw new VfioError('EINVAL', `${describeFile(file)} cannot be read or written`);
  }
}

/** @throws VfioError EINVAL */
function checkCount(count: number): number {
  if (!Number.isSafeInteger(count) || count < 0) throw new VfioError('EINVAL', `a length of ${count}`);
  return Math.min(count, MAX_RW_COUNT);
}

function readCounter(counter: EventCounter, into: UserMemory, count: number): number {
  if (!(count >= 8)) throw new VfioError('EINVAL', 'an eventfd gives 8 bytes');
  const value = counter.take();
  if (typeof into === 'number' || into.length < 8) throw new VfioError('EFAULT', 'the 8 bytes are not in mapped memory');
  viewOf(into).setBigUint64(0, value, true);
  return 8;
}

function writeCounter(counter: EventCounter, from: UserMemory, count: number): number {
  if (!(count >= 8)) throw new VfioError('EINVAL', 'an eventfd takes 8 bytes');
  if (typeof from === 'number' || from.length < 8) throw new VfioError('EFAULT', 'the 8 bytes are not in mapped memory');
  counter.write(viewOf(from).getBigUint64(0, true));
  return 8;
}

type BoundHandler = (caller: Caller, user: UserBuffer, argument: IoctlArgument) => number;

/**
 * The handler of `request` for a file of this kind. Containers and iommufds have tables of their
 * own.
 */
function handlerOf(body: FileBody, request: number): BoundHandler | undefined {
  switch (body.kind) {
    case 'group':
      return bound(groupIoctls, request, body.group);
    case 'device':
      return bound(deviceIoctls, request, body.device);
    case 'cdev':
      return cdevHandler(body.cdev, request);
    case 'kvm':
      return bound(kvmIoctls, request, body.provider);
    case 'vm':
      return bound(vmIoctls, request, body.vm);
    case 'vm-device':
      return bound(vmDeviceIoctls, request, body.set);
    case 'migration':
      return bound(migrationIoctls, request, body.stream);
    default:
      return undefined;
  }
}

/** @throws VfioError EINVAL for everything but BIND before it is bound */
function cdevHandler(cdev: CdevFile, request: number): BoundHandler | undefined {
  return bound(cdevIoctls, request, cdev) ?? bound(deviceIoctls, request, cdev.device);
}

function bound<T>(table: ReadonlyMap<number, Handler<T>>, request: number, object: T): BoundHandler | undefined {
  const handler = table.get(request);
  return handler && ((caller, user, argument) => handler(object, caller, user, argument));
}
