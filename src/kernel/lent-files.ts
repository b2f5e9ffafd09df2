/**
 * A device that one process opens and another one drives: the descriptors go over a UNIX socket
 * (SCM_RIGHTS), with a line that describes them. The receiver holds the only copies, so the kernel
 * closes the device, which quiets it, when the receiver ends in whichever way.
 */
import { Cleanup } from '../base/cleanup.ts';
import { Errno, type ErrnoName, VfioError } from '../base/errno.ts';
import type { EventSource } from '../events/source.ts';
import { END_OF_STREAM, WOULD_BLOCK } from '../sys/byte-stream.ts';
import { KernelFile } from '../sys/kernel-file.ts';
import type { OwnedFd } from '../sys/owned-fd.ts';
import { UnixListener } from '../sys/unix-listener.ts';
import { UnixSocket } from '../sys/unix-socket.ts';
import { KernelContainer } from './container.ts';
import type { DmaBackend } from './dma-backend.ts';
import { KernelDmaSpace } from './dma-space.ts';
import { KernelIoas } from './ioas.ts';
import { newSpace } from './no-iommu-space.ts';
import type { OpenedFile, OpenedVia, OwnershipProof } from './opened.ts';
import { OpenedKernelFile } from './opened-file.ts';

/** The first line of the protocol: another version is refused. */
const PROTOCOL = 'vfio-ts/lent/1';
/** A line is shorter. */
const LINE_BYTES = 4096;
/** A broker opens the device in this time, its reset included. */
const TIMEOUT_MS = 30_000;

interface Described {
  readonly protocol: string;
  readonly name: string;
  readonly via: OpenedVia;
  /** Of a container: its type, and the group's number. The files are container, group, device. */
  readonly container?: { readonly iommu: number; readonly group: number };
  /** Of an iommufd: numbers in it. The files are iommufd, device. */
  readonly iommufd?: { readonly ioas: number; readonly deviceId: number; readonly hwpts: readonly number[] };
}

interface Refused {
  readonly protocol: string;
  readonly error: { readonly code?: string; readonly message?: string; readonly fix?: string };
}

/**
 * Send the files of an open device. The caller closes its own.
 *
 * @throws VfioError EPIPE, ECONNRESET when the receiver is gone
 */
export function sendOpened(opened: OpenedFile, socket: UnixSocket): void {
  const { name, via, proof, file } = opened;
  const { backend } = opened.space.shared;
  const head = { protocol: PROTOCOL, name, via };
  if (backend instanceof KernelContainer && proof.kind === 'group') {
    const line: Described = { ...head, container: { iommu: backend.iommu!, group: proof.group } };
    sendLine(socket, line, [backend.file.fd, proof.file.fd, file.fd]);
  } else if (backend instanceof KernelIoas && proof.kind === 'iommufd') {
    const line: Described = { ...head, iommufd: { ioas: backend.id, deviceId: proof.deviceId, hwpts: backend.hwpts } };
    sendLine(socket, line, [backend.file.fd, file.fd]);
  }
}

/** Send the reason why there is no device. */
export function sendRefusal({ code, message, fix }: VfioError, socket: UnixSocket): void {
  const line: Refused = { protocol: PROTOCOL, error: { code, message, ...(fix === undefined ? {} : { fix }) } };
  sendLine(socket, line, []);
}

function sendLine(socket: UnixSocket, line: object, fds: readonly OwnedFd[]): void {
  const bytes = new TextEncoder().encode(`${JSON.stringify(line)}\n`);
  if (socket.send(bytes, 0, bytes.length, fds) !== bytes.length) {
    throw new VfioError('EPIPE', 'the receiver takes nothing from its socket');
  }
}

/** The files of a device that came over a socket, before they are a device. */
export class LentFiles implements Disposable {
  readonly name: string;
  readonly #described: Described;
  readonly #files: readonly KernelFile[];
  readonly #socket: UnixSocket;
  /** Files and socket, until the device has them. */
  readonly #owns: Cleanup;

  private constructor(described: Described, files: readonly KernelFile[], socket: UnixSocket, owns: Cleanup) {
    this.name = described.name;
    this.#described = described;
    this.#files = files;
    this.#socket = socket;
    this.#owns = owns;
  }

  /**
   * Ask the process that lends at `path`. Blocks this thread until it has answered.
   *
   * @throws VfioError ENOENT, ECONNREFUSED, EACCES when no process lends there; the error of that
   *   process when it could not open the device; EBUSY while a different process has it; EPROTO for
   *   an answer that is none; ETIMEDOUT
   */
  static receive(path: string): LentFiles {
    if (UnixListener.isOfThisThread(path)) throw new VfioError('EDEADLK', `this thread itself lends at ${path}, and would wait for ever`);
    using undo = new Cleanup();
    const socket = undo.use(UnixSocket.connect(path));
    const { line, fds } = readLine(socket, path);
    for (const fd of fds) undo.use(fd);
    const described = parse(line, path);
    const paths = described.container !== undefined ? ['/dev/vfio/vfio', `group ${described.container.group}`] : ['/dev/iommu'];
    if (fds.length !== paths.length + 1) throw new VfioError('EPROTO', `${path} sent ${fds.length} files for a device`);
    const files = fds.map((fd, i) => undo.use(KernelFile.own(fd.trust(), paths[i] ?? described.name)));
    return new LentFiles(described, files, socket, undo.move());
  }

  /** The open device, which takes the files over. @param source of the device */
  opened(source: EventSource): OpenedFile {
    const { name, via, container, iommufd } = this.#described;
    const file = this.#files.at(-1)!;
    const { backend, proof } = container === undefined ? this.#ofIommufd(iommufd!) : this.#ofContainer(container);
    const space = newSpace(backend, via.startsWith('noiommu')).get();
    this.#owns.move();
    const owns = new Cleanup();
    owns.use(this.#socket);
    owns.defer(() => space.put());
    owns.use(file);
    const view = new KernelDmaSpace(space, source);
    return new OpenedKernelFile({ name, via, why: 'another process has opened it, and lends it', file, space: view, proof }, owns);
  }

  #ofContainer({ iommu, group }: NonNullable<Described['container']>): { readonly backend: DmaBackend; readonly proof: OwnershipProof } {
    const [container, file] = this.#files;
    const backend = KernelContainer.lent(container!, iommu);
    backend.joinLent(group, file!);
    return { backend, proof: { kind: 'group', group, file: file! } };
  }

  #ofIommufd({ ioas, deviceId, hwpts }: NonNullable<Described['iommufd']>): {
    readonly backend: DmaBackend;
    readonly proof: OwnershipProof;
  } {
    return { backend: new KernelIoas(this.#files[0]!, ioas, hwpts), proof: { kind: 'iommufd', deviceId } };
  }

  /** Gives the device back, unless `opened` has taken it. */
  [Symbol.dispose](): void {
    this.#owns[Symbol.dispose]();
  }
}

function readLine(socket: UnixSocket, path: string): { readonly line: string; readonly fds: readonly OwnedFd[] } {
  const bytes = new Uint8Array(LINE_BYTES);
  const fds: OwnedFd[] = [];
  using undo = new Cleanup();
  undo.defer(() => {
    for (const fd of fds) fd[Symbol.dispose]();
  });
  const until = performance.now() + TIMEOUT_MS;
  let length = 0;
  while (length === 0 || bytes[length - 1] !== 0x0a) {
    if (length === bytes.length) throw new VfioError('EPROTO', `${path} sends no line of this protocol`);
    const received = socket.receive(bytes, length, bytes.length, fds);
    if (received === END_OF_STREAM) throw new VfioError('EPROTO', `the process that lends at ${path} has closed the connection`);
    if (received !== WOULD_BLOCK) length += received;
    else if (!socket.wait('readable', Math.max(0, until - performance.now())))
      throw new VfioError('ETIMEDOUT', `the process that lends at ${path} does not answer`);
  }
  undo.move();
  return { line: new TextDecoder().decode(bytes.subarray(0, length)), fds };
}

/** @throws VfioError the refusal; EPROTO */
export function parse(line: string, path: string): Described {
  let parsed: Partial<Described & Refused> | null = null;
  try {
    parsed = JSON.parse(line) as Partial<Described & Refused>;
  } catch {
    // No line of this protocol.
  }
  if (parsed?.protocol !== PROTOCOL) {
    throw new VfioError('EPROTO', `the process at ${path} does not lend devices as this version does`, {
      fix: 'Use the same version of the package on both sides.',
    });
  }
  if (parsed.error !== undefined) {
    const { code, message, fix } = parsed.error ?? {};
    const known = typeof code === 'string' && Object.hasOwn(Errno, code) ? (code as ErrnoName) : 'EIO';
    throw new VfioError(
      known,
      String(message ?? `the process at ${path} refuses, without a reason`),
      typeof fix === 'string' ? { fix } : {},
    );
  }
  const { name, via, container, iommufd } = parsed;
  const ofContainer = container !== undefined && areNumbers(container?.iommu, container?.group);
  const ofIommufd = iommufd !== undefined && Array.isArray(iommufd?.hwpts) && areNumbers(iommufd.ioas, iommufd.deviceId, ...iommufd.hwpts);
  const both = container !== undefined && iommufd !== undefined;
  if (typeof name !== 'string' || typeof via !== 'string' || both || !(ofContainer || ofIommufd)) {
    throw new VfioError('EPROTO', `the process at ${path} describes no device`);
  }
  return parsed as Described;
}

function areNumbers(...values: unknown[]): boolean {
  return values.every((value) => Number.isInteger(value));
}
