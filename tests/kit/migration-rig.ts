/** Two machines with the same device, opened, and a way to move its data from one to the other. */
import type { MigrationStream } from '../../src/abi/device.ts';
import { Extension } from '../../src/abi/vfio.ts';
import { ManualClock } from '../../src/base/clock.ts';
import { VfioError } from '../../src/base/errno.ts';
import { Migration } from '../../src/drivers/kit/migration.ts';
import type { DeviceFile } from '../../src/engine/device/device-file.ts';
import { Machine } from '../../src/engine/machine/machine.ts';
import type { DeviceModel } from '../../src/pci/declaration.ts';
import { HeapMemory } from '../../src/sys/fake.ts';

export const BDF = '0000:00:04.0';

export class MigrationSide implements Disposable {
  readonly clock = new ManualClock();
  readonly logged: string[] = [];
  readonly machine: Machine;
  readonly device: DeviceFile;
  readonly migration: Migration;

  constructor(model: DeviceModel) {
    this.machine = new Machine(
      { devices: [{ at: '04.0', model, driver: 'vfio-pci' }] },
      {
        clock: this.clock,
        allocate: HeapMemory.allocate,
        log: { log: (level, message) => void (level === 'error' && this.logged.push(message)) },
      },
    );
    const container = this.machine.openContainer();
    const group = this.machine.openGroup(this.machine.function(BDF).group!.id);
    group.setContainer(container);
    container.setIommu(Extension.TYPE1v2_IOMMU);
    this.device = group.openDevice(BDF);
    group.close();
    container.close();
    this.migration = new Migration(this.device);
  }

  get host() {
    return this.machine.function(BDF).host;
  }

  [Symbol.dispose](): void {
    this.device.close();
    this.machine[Symbol.dispose]();
  }
}

/**
 * Everything that `stream` holds now: until its end, or until it is empty while the device runs.
 */
export function readAll(stream: MigrationStream, pieceBytes = 100_000): Uint8Array {
  const pieces: Uint8Array[] = [];
  const into = new Uint8Array(pieceBytes);
  for (;;) {
    let got: number;
    try {
      got = stream.read(into);
    } catch (error) {
      if (error instanceof VfioError && error.code === 'ENOMSG') break;
      throw error;
    }
    if (got === 0) break;
    pieces.push(into.slice(0, got));
  }
  return new Uint8Array(Buffer.concat(pieces));
}

/** Stop the device and take all of its data. */
export function save({ migration }: { readonly migration: Migration }): Uint8Array {
  using stream = migration.go('STOP_COPY')!;
  return readAll(stream);
}

/** Load it into another device, and let that device run. */
export function load({ migration }: { readonly migration: Migration }, data: Uint8Array): void {
  using stream = migration.go('RESUMING')!;
  stream.write(data);
  migration.go('RUNNING');
}
