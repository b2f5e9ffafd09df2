/**
 * Events: what happens between a driver and a device, as declared records. Engine, server, client,
 * models and drivers emit them into one stream (events/stream.ts); logs, counters, traces and
 * recordings are printed from it.
 *
 * Files say the version of the shapes here (`EVENTS_VERSION` of events/kinds.ts). A kind or a field
 * may be added within a version; a change of what is there makes a new one.
 *
 * Longer than 400 lines because the records of all kinds are one contract.
 */
import type { LogLevel } from '../base/log.ts';

/**
 * The reason why a DMA did not land. 'stopped': the device is stopped for migration, and its model
 * has broken its promise.
 */
export type DmaFaultReason = 'bus-master-off' | 'not-powered' | 'stopped' | 'no-domain' | 'not-mapped' | 'permission' | 'remote-failed';

/** The head that every event has. */
export interface EventHead {
  /** Its number in the stream, from 1. A gap is where a reader was too slow: see `dropped`. */
  readonly seq: number;
  /**
   * Whole nanoseconds of the injected clock: the machine's time, as models and the engine see it.
   */
  readonly timeNs: number;
  /**
   * Whole nanoseconds of the host's CLOCK_MONOTONIC. The only field that differs between equal
   * runs.
   */
  readonly hostNs: number;
  /** `0000:00:04.0`, `unix:/path.sock`, or `machine` for what no device does. */
  readonly device: string;
  /** `seq` of the event that led to this one; 0: none is known. */
  readonly cause: number;
}

/** An access of a region, as the bus carries it or as VFIO refuses it. */
export interface AccessEvent extends EventHead {
  readonly kind: 'access';
  readonly op: 'read' | 'write';
  /** 0 to 5 are BARs, 6 the ROM, 7 config space, 8 VGA, from 9 on regions of the device's own. */
  readonly region: number;
  readonly offset: number;
  /** Bytes. */
  readonly size: number;
  /**
   * The value read or written, for registers of 1, 2, 4 and 8 bytes. Absent for longer accesses,
   * for plain memory unless a reader asks for data, and where nothing was read.
   */
  readonly value?: number | bigint;
  /**
   * Who decided. `device`: the device's registers. `virtual`: VFIO answered, or kept the bits.
   * `mixed`: VFIO for some bits. `dropped`: reads are all ones and writes have no effect.
   * `mediator`: a mediator's hook. `refused`: the access failed with `errno`.
   */
  readonly verdict: 'device' | 'virtual' | 'mixed' | 'dropped' | 'mediator' | 'refused';
  /** The rule that decided, where it was not the device; how the device found a store to memory. */
  readonly rule?: string;
  readonly errno?: string;
  /** The bytes, only for readers that ask for data. */
  readonly data?: Uint8Array;
}

/** A region was mapped into the program, or unmapped. Uses of the mapped bytes make no events. */
export interface MappingEvent extends EventHead {
  readonly kind: 'mapping';
  readonly op: 'map' | 'unmap';
  readonly region: number;
  readonly offset: number;
  readonly size: number;
}

/** VFIO_IOMMU_MAP_DMA and its like: memory that devices reach from now on. */
export interface DmaMapEvent extends EventHead {
  readonly kind: 'dma-map';
  readonly iova: bigint;
  readonly size: bigint;
  /** Of the devices. Absent where the request names none. */
  readonly access?: 'read' | 'write' | 'read, write';
  /** `direct`: mapped in this process. `remote`: reached by messages. */
  readonly memory: 'direct' | 'remote';
  /** Only the mapping's address in the process changed. */
  readonly vaddrOnly?: boolean;
  /** The request was refused with it. */
  readonly errno?: string;
  readonly reason?: string;
}

/** VFIO_IOMMU_UNMAP_DMA and its like. */
export interface DmaUnmapEvent extends EventHead {
  readonly kind: 'dma-unmap';
  readonly iova: bigint;
  /** Bytes that were unmapped; of a refused request, those that it names. */
  readonly size: bigint;
  /** The mappings stay, and lose their address in the process. */
  readonly vaddrOnly?: boolean;
  readonly errno?: string;
  readonly reason?: string;
}

/** A transfer of the device that landed. */
export interface DmaEvent extends EventHead {
  readonly kind: 'dma';
  readonly op: 'read' | 'write';
  readonly iova: bigint;
  readonly size: number;
  /** `view`: the device took the bytes themselves, and may use them more than once. */
  readonly way: 'direct' | 'remote' | 'view';
  /** The bytes, only for readers that ask for data. */
  readonly data?: Uint8Array;
}

/** A transfer of the device that did not land. */
export interface DmaRefusedEvent extends EventHead {
  readonly kind: 'dma-refused';
  readonly op: 'read' | 'write';
  readonly iova: bigint;
  readonly reason: DmaFaultReason;
  /** Transfers of the device that did not land for that reason, this one included. */
  readonly count: number;
}

/** A step of an interrupt between the device and its driver. */
export interface InterruptEvent extends EventHead {
  readonly kind: 'interrupt';
  /**
   * `raised`: the device sends it, or drives its pin. `lowered`: the device releases the pin.
   * `pending`: it waits, masked. `delivered`: the driver was signalled. `masked`, `unmasked`: the
   * vector, by the driver or by automask. `dropped`: it could not leave, for `reason`.
   */
  readonly step: 'raised' | 'lowered' | 'pending' | 'delivered' | 'masked' | 'unmasked' | 'dropped';
  readonly irq: 'intx' | 'msi' | 'msix' | 'err' | 'req';
  readonly vector: number;
  readonly reason?: string;
}

/** VFIO_DEVICE_SET_IRQS. */
export interface SetIrqsEvent extends EventHead {
  readonly kind: 'set-irqs';
  readonly irq: 'intx' | 'msi' | 'msix' | 'err' | 'req';
  readonly action: 'mask' | 'unmask' | 'trigger';
  /** Beside the request comes nothing, a byte for each vector, or eventfds. */
  readonly with: 'none' | 'bool' | 'eventfd';
  readonly start: number;
  readonly count: number;
  readonly errno?: string;
  readonly reason?: string;
}

/** A function, or its bus, was reset. */
export interface ResetEvent extends EventHead {
  readonly kind: 'reset';
  /**
   * The cause: `VFIO_DEVICE_RESET`, `VFIO_DEVICE_PCI_HOT_RESET`, `config space`, `open`, `close`,
   * `bus`, `power`, `physical function`, `recovery`, `administrator`.
   */
  readonly by: string;
  /** `flr`, `af_flr`, `pm`, `bus`, … as Linux's reset_method; absent where there is none. */
  readonly method?: string;
  readonly errno?: string;
  readonly reason?: string;
}

/** The power state of a function; of the device `machine`: its power and its sleep. */
export interface PowerEvent extends EventHead {
  readonly kind: 'power';
  readonly state: 'D0' | 'D1' | 'D2' | 'D3hot' | 'low power' | 'awake' | 'suspended' | 'resumed' | 'on' | 'off';
}

/** COMMAND changed: what the function decodes, and whether it may use the bus. */
export interface EnableEvent extends EventHead {
  readonly kind: 'enable';
  readonly busMaster: boolean;
  readonly memory: boolean;
  readonly io: boolean;
}

/** A function got another driver; with `errno` it did not get it. */
export interface BindEvent extends EventHead {
  readonly kind: 'bind';
  /** null: none. */
  readonly driver: string | null;
  readonly was: string | null;
  readonly errno?: string;
  readonly reason?: string;
}

/** A change of an isolation group, or of its container; with `errno` one that was refused. */
export interface GroupEvent extends EventHead {
  readonly kind: 'group';
  readonly group: number;
  readonly step: 'opened' | 'closed' | 'attached' | 'detached' | 'viable' | 'not viable';
  /** The container or iommufd that it was attached to, or detached from: `container 0`. */
  readonly container?: string;
  readonly errno?: string;
  readonly reason?: string;
}

/** A function appeared, or is gone; with `errno` it could not be plugged in. */
export interface PlugEvent extends EventHead {
  readonly kind: 'plug';
  /** `asked to leave`: its users are asked to close it. */
  readonly step: 'added' | 'removed' | 'asked to leave';
  /** The name in its declaration. */
  readonly name?: string;
  readonly errno?: string;
  readonly reason?: string;
}

/** A device or a container was opened or closed. */
export interface OpenEvent extends EventHead {
  readonly kind: 'open';
  readonly step: 'opened' | 'closed' | 'refused';
  /** The process; 0: unknown. */
  readonly pid: number;
  /** The way to a device of this computer: `cdev`. */
  readonly via?: string;
  /** Why that way: one sentence. */
  readonly why?: string;
  readonly errno?: string;
  readonly reason?: string;
}

/** A VF token was asked for, given or set. Its value is in no event. */
export interface TokenEvent extends EventHead {
  readonly kind: 'token';
  readonly step: 'set' | 'matched' | 'refused';
  readonly reason?: string;
}

/** The device changed its migration state, or refused to. */
export interface MigrationEvent extends EventHead {
  readonly kind: 'migration';
  readonly from: string;
  readonly to: string;
  readonly errno?: string;
  readonly reason?: string;
}

/**
 * VFIO_DEVICE_FEATURE, of a feature that has no event of its own; also a setting of a container
 * (`SET_IOMMU`, `DIRTY_PAGES`), or of an administrator (`sriov_numvfs`).
 */
export interface FeatureEvent extends EventHead {
  readonly kind: 'feature';
  readonly name: string;
  readonly op: 'get' | 'set' | 'probe';
  /** The setting in words: `4`, `START`. Absent where the feature has no short one. */
  readonly value?: string;
  readonly errno?: string;
  readonly reason?: string;
}

/** A device's reference on the virtual machine that it works for. */
export interface VmEvent extends EventHead {
  readonly kind: 'vm';
  readonly step: 'taken' | 'refused' | 'given back';
  /** The virtual machine. */
  readonly name: string;
}

/** A fault was injected. */
export interface FaultEvent extends EventHead {
  readonly kind: 'fault';
  readonly step: string;
  readonly errno: string;
}

/** The device reported an error (AER). */
export interface ErrorEvent extends EventHead {
  readonly kind: 'error';
  readonly severity: 'correctable' | 'nonfatal' | 'fatal';
  /** A message left the function. */
  readonly sent: boolean;
}

/** A command of the device's own kind was done: of NVMe, one of its queues. */
export interface CommandEvent extends EventHead {
  readonly kind: 'command';
  /** `Read`, `Identify`: the device's own word. */
  readonly name: string;
  /** Where it was submitted; absent for a device without queues. */
  readonly queue?: string;
  /** The device's own fields, by the names that it declares. */
  readonly fields: Readonly<Record<string, number | bigint | string | boolean>>;
  /** `ok`, or the device's own word for its failure. */
  readonly status: string;
  /** From the doorbell to the end, by the device's clock. */
  readonly latencyNs: number;
}

/** A driver's wait is over. */
export interface WaitEvent extends EventHead {
  readonly kind: 'wait';
  /** `MSI-X vector 1`, `a condition`. */
  readonly what: string;
  readonly outcome: 'done' | 'timeout' | 'interrupted' | 'gone' | 'failed';
  /** By the driver's clock. */
  readonly latencyNs: number;
}

/** A vfio-user message. */
export interface MessageEvent extends EventHead {
  readonly kind: 'message';
  readonly direction: 'to server' | 'to client';
  readonly id: number;
  /** `REGION_READ` */
  readonly command: string;
  readonly type: 'command' | 'posted' | 'reply' | 'error';
  /** Bytes of the whole message. */
  readonly size: number;
  /** Descriptors that came with it. */
  readonly fds: number;
  /** The kernel's names of them, where they are known: `/memfd:x, anon_inode:[eventfd]`. */
  readonly descriptors?: string;
  /** On the second socket, where the server commands. */
  readonly twin: boolean;
  /** `EBUSY`, of an error. */
  readonly errno?: string;
  /**
   * The message as it was on the wire, up to the end of its structure, and 4096 bytes at most. A VF
   * token is asterisks. Values of registers (1 to 8 bytes) are here, too. Under a flood of long
   * messages only the header is kept.
   */
  readonly bytes: Uint8Array;
  /** The bytes behind it, of DMA and longer accesses. Only for readers that ask for data. */
  readonly data?: Uint8Array;
}

/** A line for people: whatever has no kind of its own. */
export interface NoteEvent extends EventHead {
  readonly kind: 'note';
  readonly level: LogLevel;
  /** The subject. Notes about one thing are limited in rate together. */
  readonly about: string;
  readonly text: string;
}

/**
 * A system call of a program of `vfio exec` on a file of VFIO, or of the machine's part of sysfs.
 * The events that it leads to come after it, and name it as their cause.
 */
export interface CallEvent extends EventHead {
  readonly kind: 'call';
  /** The process that makes it. */
  readonly pid: number;
  /** `ioctl`, `openat`, `pread64`, … */
  readonly call: string;
  /** Its arguments as strace writes them, structures decoded, with the fields that it changed. */
  readonly args: string;
  /**
   * Absent where the call failed, where it waits (another event has its end then), and where Linux
   * carries it out: the address of mmap is not known here.
   */
  readonly result?: number;
  readonly errno?: string;
  /** The engine's sentence: which rule refused it. */
  readonly reason?: string;
}

/** Events are missing here: this reader was too slow, or a file could not be written. */
export interface DroppedEvent extends EventHead {
  readonly kind: 'dropped';
  /** Events of any kind, of all devices of the stream. */
  readonly count: number;
}

/** An event of the stream: `kind` says which. */
export type VfioEvent =
  | AccessEvent
  | MappingEvent
  | DmaMapEvent
  | DmaUnmapEvent
  | DmaEvent
  | DmaRefusedEvent
  | InterruptEvent
  | SetIrqsEvent
  | ResetEvent
  | PowerEvent
  | EnableEvent
  | BindEvent
  | GroupEvent
  | PlugEvent
  | OpenEvent
  | TokenEvent
  | MigrationEvent
  | FeatureEvent
  | VmEvent
  | FaultEvent
  | ErrorEvent
  | CommandEvent
  | WaitEvent
  | MessageEvent
  | NoteEvent
  | CallEvent
  | DroppedEvent;

/** The kinds of events. */
export type EventKind = VfioEvent['kind'];
/** The event of a kind. */
export type EventOf<K extends EventKind> = Extract<VfioEvent, { kind: K }>;
/** The fields of a kind, without the head. */
export type EventDetails<K extends EventKind> = Omit<EventOf<K>, keyof EventHead | 'kind'>;

/** The events that a reader wants. `K`: their kinds. */
export interface EventOptions<K extends EventKind = EventKind> {
  /** Default: every kind. */
  readonly kinds?: readonly K[];
  /** Names of devices. Default: every device of the stream. */
  readonly devices?: readonly string[];
  /** Also the bytes that DMA and messages carry, and the values of plain memory. Default: false. */
  readonly data?: boolean;
}

/**
 * Events as a program reads them, in order, from the moment that it asked. Between two turns of the
 * loop a reader may be as late as the stream's memory allows; then it loses the oldest and gets a
 * `dropped` with their number. Leaving the loop, or disposing the reader, ends it. `E`: events of
 * the kinds that the reader has asked for, and `dropped`.
 */
export interface EventFlow<out E extends VfioEvent = VfioEvent> extends AsyncIterable<E>, Disposable {
  /** The events that are there now, at most `max`. Default: all. */
  take(max?: number): E[];
}

/**
 * The words of an event that comes often: a command or a wait, of which only numbers differ. It is
 * made once, and does not change.
 */
export type EventShape =
  | {
      readonly kind: 'command';
      readonly name: string;
      readonly queue?: string;
      readonly status: string;
      /** The names of at most four fields, whose values are numbers. */
      readonly fields: readonly string[];
    }
  | { readonly kind: 'wait'; readonly what: string; readonly outcome: WaitEvent['outcome'] };

/** Where a model or a driver emits events of its own device. */
export interface EventPort {
  /**
   * Whether there is a reader. While there is none, `emit` of a kind without a log line does
   * nothing: look here before building its fields.
   */
  readonly on: boolean;
  /**
   * Whether a reader asks for data. A model that uses memory in place (`DmaPort.view`) may copy
   * instead while it is set, because the bytes of a view are in no event.
   */
  readonly data: boolean;
  /** `seq` of the event that is being answered now; 0: none is known. */
  cause: number;
  /** Run `act`, of which event `seq` is the cause; 0: the cause stays. */
  during<T>(seq: number, act: () => T): T;
  /** Calls `call` whenever `on` has changed, for a part that has to prepare for readers. */
  watch(call: () => void): Disposable;
  /** @returns the event's `seq`; 0 when there was no reader */
  emit<K extends EventKind>(kind: K, details: EventDetails<K>): number;
  /**
   * Emit a command or a wait without making an object, for those that come by the hundred thousand.
   *
   * @param a `b`, `c`, `d`: the values of the shape's fields, in order
   * @returns the event's `seq`; 0 when there was no reader
   */
  emitShaped(shape: EventShape, latencyNs: number, a?: number, b?: number, c?: number, d?: number): number;
}
