/**
 * The engine as Linux shows it: device nodes that are opened by name, and processes that make
 * system calls. The door adds no rule of its own: it decodes, calls the engine and encodes.
 *
 *     const door = new KernelDoor(machine);
 *     const user = door.process(Process.root());
 *     const container = user.open('/dev/vfio/vfio');
 */
import { parseVfToken } from '../abi/vf-token.ts';
import { VfioError } from '../base/errno.ts';
import type { EngineContext } from '../engine/context.ts';
import type { Process } from '../engine/dma/process.ts';
import type { Machine } from '../engine/machine/machine.ts';
import type { VmProvider } from '../engine/vm/vm-provider.ts';
import { OpenFile } from './file-table.ts';
import { OpenFlags } from './posix.ts';
import { type Kernel, UserProcess } from './user-process.ts';

/** Beside the machine: its hypervisor, and a listener of refusals. */
export interface KernelDoorOptions {
  /** The hypervisor behind /dev/kvm; without one there is no such node. */
  readonly kvm?: VmProvider | undefined;
  /** Called at every refusal, with the sentence behind the errno (E-01). */
  readonly onRefusal?: ((process: Process, call: string, error: VfioError) => void) | undefined;
  /**
   * The VF token, a UUID, of processes that cannot give one, such as User Mode Linux: SR-IOV
   * functions that they open without a token are opened with this one.
   */
  readonly vfToken?: string | undefined;
}

const DEVICE_NODES = '/dev/vfio/devices/';
const GROUP_NODE = /^\/dev\/vfio\/(noiommu-)?(0|[1-9][0-9]{0,9})$/;

/** The ioctl door of a machine: it opens /dev/vfio for simulated processes. */
export class KernelDoor implements Kernel {
  readonly machine: Machine;
  readonly #kvm: VmProvider | undefined;
  readonly #onRefusal: KernelDoorOptions['onRefusal'];
  readonly #spareToken: Uint8Array | null;

  /**
   * A door to a machine; a machine may have several.
   *
   * @param machine its functions, groups and nodes are the ones that processes see
   * @throws VfioError EINVAL for a token that is no UUID
   */
  constructor(machine: Machine, options: KernelDoorOptions = {}) {
    this.machine = machine;
    this.#kvm = options.kvm;
    this.#onRefusal = options.onRefusal;
    this.#spareToken = options.vfToken === undefined ? null : parseVfToken(options.vfToken);
    if (options.vfToken !== undefined && this.#spareToken === null) throw new VfioError('EINVAL', 'the VF token is not a UUID');
  }

  /** The machine's context: the log that the door writes bugs to. */
  get context(): EngineContext {
    return this.machine.context;
  }

  /**
   * Let `process` make system calls. Its exit closes its descriptors.
   *
   * @throws VfioError ESRCH when it has exited
   */
  process(process: Process, descriptorLimit?: number): UserProcess {
    return new UserProcess(this, process, descriptorLimit);
  }

  /**
   * open(2) of a path.
   *
   * @param access O_RDONLY, O_WRONLY or O_RDWR
   * @throws VfioError ENOENT; EACCES for a node of another user; as `Machine.openGroup`, EBUSY
   * while the group is open, and as `Machine.openDevice`
   */
  openPath(path: string, process: Process, access: number = OpenFlags.O_RDWR): OpenFile {
    const file = this.#openNode(path, process);
    file.access = access;
    file.path = path;
    return file;
  }

  #openNode(path: string, process: Process): OpenFile {
    if (path === '/dev/null') return new OpenFile({ kind: 'null' });
    if (path === '/dev/vfio/vfio') {
      // Not tied to the process: a program may send descriptors to others, and the last one closes
      // the container.
      const container = this.machine.openContainer();
      return new OpenFile({ kind: 'container', container }, () => container.close());
    }
    if (path === '/dev/iommu') {
      const iommufd = this.machine.openIommufd(process);
      return new OpenFile({ kind: 'iommufd', iommufd }, () => iommufd.close());
    }
    if (path.startsWith(DEVICE_NODES)) {
      const cdev = this.machine.openDevice(path.slice(DEVICE_NODES.length), process);
      if (this.#spareToken !== null) cdev.setSpareToken(this.#spareToken);
      return new OpenFile({ kind: 'cdev', cdev }, () => cdev.close());
    }
    if (path === '/dev/kvm' && this.#kvm !== undefined) return new OpenFile({ kind: 'kvm', provider: this.#kvm });
    const match = GROUP_NODE.exec(path);
    if (match === null) throw new VfioError('ENOENT', `there is no ${path.slice(0, 64)}`);
    const id = Number(match[2]);
    if ((match[1] !== undefined) !== (this.machine.groups.get(id)?.noIommu === true)) throw new VfioError('ENOENT', `there is no ${path}`);
    const group = this.machine.openGroup(id, process);
    group.keepAfterExit();
    if (this.#spareToken !== null) group.setSpareToken(this.#spareToken);
    return new OpenFile({ kind: 'group', group }, () => group.close());
  }

  /** Called for every errno that goes back to a process. */
  refused(process: Process, call: string, error: VfioError): void {
    this.#onRefusal?.(process, call, error);
  }
}
