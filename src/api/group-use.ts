/**
 * The users of groups through sockets. A user is a process with as many connections as it has to
 * functions of the group. The connections are one user, as on Linux: one group file, one container,
 * one account (S1-01, S1-04, S1-06). While one of them is left, the group refuses any other
 * process.
 */
import { Extension } from '../abi/vfio.ts';
import { Cleanup } from '../base/cleanup.ts';
import { VfioError } from '../base/errno.ts';
import type { DeviceFile } from '../engine/device/device-file.ts';
import type { Container } from '../engine/dma/container.ts';
import type { Process } from '../engine/dma/process.ts';
import type { GroupFile } from '../engine/machine/group-file.ts';
import type { IsolationGroup } from '../engine/machine/isolation-group.ts';
import type { Machine } from '../engine/machine/machine.ts';
import { SharedDma } from './shared-dma.ts';

/** One connection's part of a group's use. */
export interface GroupShare extends Disposable {
  readonly use: GroupUse;
  readonly device: DeviceFile;
}

interface Connection {
  /** @throws VfioError EBUSY why no other connection may join the group now */
  readonly mayShare: () => void;
}

export class GroupUses {
  /** An unused group goes from this map with its machine. */
  readonly #uses = new WeakMap<IsolationGroup, GroupUse>();
  readonly #listeners = new Set<() => void>();

  /**
   * The use of `group`; null when no connection has the group. When a group has lost its devices,
   * its use is over, although connections may remain.
   */
  of(group: IsolationGroup): GroupUse | null {
    const use = this.#uses.get(group);
    return use?.isOver === false ? use : null;
  }

  /** A user of the machine that is no client has closed a group. */
  announceFree(): void {
    for (const listener of [...this.#listeners]) listener();
  }

  /** Call `listener` each time a group may have become free. */
  onFree(listener: () => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  /**
   * The holder that keeps `process` from using the group; null when there is none. Null as
   * `process` means a process that the server has not seen before.
   */
  heldBy(group: IsolationGroup, process: Process | null): string | null {
    const { file } = group;
    if (file === null) return null;
    const use = this.of(group);
    return use !== null && use.user === process ? null : file.holder;
  }

  /**
   * Open a function for a connection of `process`. Connections of one process share its use of the
   * group.
   *
   * @param token a VF token, as a UUID
   * @param mayShare is called before another connection joins this one
   * @throws VfioError EBUSY while another process has the group; errors of opening group, container
   *   and device
   */
  open(machine: Machine, bdf: string, process: Process, token: string | undefined, mayShare: () => void): GroupShare {
    const group = machine.function(bdf).group!;
    using undo = new Cleanup();
    const known = this.of(group);
    let use: GroupUse;
    if (known !== null && known.user === process) use = known;
    else {
      use = undo.use(GroupUse.open(machine, group, process));
      this.#uses.set(group, use);
      undo.defer(() => void (this.#uses.get(group) === use && this.#uses.delete(group)));
    }
    const share = use.join(bdf, process, token, { mayShare }, () => {
      if (this.#uses.get(group) === use) this.#uses.delete(group);
      this.announceFree();
    });
    undo.move();
    return share;
  }
}

export class GroupUse implements Disposable {
  readonly container: Container;
  /** The mappings of the container, and the connections that made them. */
  readonly dma = new SharedDma();
  readonly #group: GroupFile;
  readonly #connections = new Set<Connection>();
  readonly #owns: Disposable;
  #user: Process;

  private constructor(group: GroupFile, container: Container, user: Process, owns: Disposable) {
    this.#group = group;
    this.container = container;
    this.#user = user;
    this.#owns = owns;
  }

  /**
   * Container and group, as a program on Linux opens them.
   *
   * @throws VfioError errors of opening them
   */
  static open(machine: Machine, group: IsolationGroup, process: Process): GroupUse {
    using undo = new Cleanup();
    // The socket's mode admitted this process. A group that has a user stays that user's.
    if (group.file === null) machine.chownGroup(group.id, process.uid);
    const container = machine.openContainer(process);
    undo.defer(() => container.close());
    const file = undo.use(machine.openGroup(group.id, process));
    file.setContainer(container);
    container.setIommu(Extension.TYPE1v2_IOMMU);
    return new GroupUse(file, container, process, undo.move());
  }

  /** The process that uses the group. */
  get user(): Process {
    return this.#user;
  }

  /**
   * A client takes over the device that was moved here. Further devices that it opens belong to it.
   */
  set user(process: Process) {
    this.#user = process;
  }

  /** The group has no device for vfio-pci any more, or other processes have its devices. */
  get isOver(): boolean {
    return this.#group.group.file !== this.#group;
  }

  get connections(): number {
    return this.#connections.size;
  }

  join(bdf: string, process: Process, token: string | undefined, connection: Connection, free: () => void): GroupShare {
    for (const each of this.#connections) each.mayShare();
    const device = this.#group.openDevice(token === undefined ? bdf : `${bdf} vf_token=${token}`, process);
    this.#connections.add(connection);
    let left = false;
    return {
      use: this,
      device,
      [Symbol.dispose]: () => {
        if (left) return;
        left = true;
        using undo = new Cleanup();
        if (this.#connections.size === 1) {
          undo.defer(free);
          undo.use(this);
        }
        this.#connections.delete(connection);
        device.close();
      },
    };
  }

  /**
   * A function cannot be moved away while several connections use its group.
   *
   * @throws VfioError EBUSY
   */
  checkAlone(): void {
    if (this.connections < 2) return;
    const others = this.#group.deviceFiles.map((file) => file.device.bdf).join(', ');
    throw new VfioError('EBUSY', `group ${this.#group.group.id} is used through several connections of ${this.#user} (${others})`, {
      fix: 'Disconnect the other functions of the group first: all of them share the mappings.',
    });
  }

  [Symbol.dispose](): void {
    this.#owns[Symbol.dispose]();
  }
}
