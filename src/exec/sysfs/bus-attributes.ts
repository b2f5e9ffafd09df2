/**
 * The files through which an administrator changes the drivers of functions.
 *
 * @see linux/drivers/base/bus.c, bind_store(), unbind_store(), drivers_probe_store();
 * linux/drivers/pci/pci-driver.c, new_id_store(), remove_id_store()
 */
import { VfioError } from '../../base/errno.ts';
import type { Machine } from '../../engine/machine/machine.ts';
import type { PciFunction } from '../../engine/machine/pci-function.ts';
import { type Attribute, action, constant, type Stored } from './attribute.ts';
import { unsigned } from './function-attributes.ts';

/** @throws VfioError ENODEV for an address without a function */
function functionAt(machine: Machine, text: string): PciFunction {
  const fn = machine.functions.get(text);
  if (fn !== undefined) return fn;
  throw new VfioError('ENODEV', `${JSON.stringify(text.slice(0, 40))} is not the address of a function of ${machine.name}`, {
    fix: 'Write the whole address, such as 0000:01:00.0.',
  });
}

function bind(machine: Machine, driver: string, text: string): void {
  const fn = functionAt(machine, text);
  if (fn.driver === null && !machine.drivers.matches(driver, fn)) {
    throw new VfioError('ENODEV', `${driver} does not take ${fn.bdf}: neither driver_override nor an id of the driver names it`, {
      fix: `echo ${driver} > /sys/bus/pci/devices/${fn.bdf}/driver_override`,
    });
  }
  machine.bind(fn.bdf, driver);
}

function unbind(machine: Machine, driver: string, text: string): Stored {
  const fn = functionAt(machine, text);
  if (fn.driver !== driver) throw new VfioError('ENODEV', `${fn.bdf} is not bound to ${driver} but to ${fn.driver ?? 'no driver'}`);
  return machine.unbind(fn.bdf);
}

/** Offer unbound functions to the driver that matches. As in Linux, no refusal is reported. */
function offer(machine: Machine, functions: Iterable<PciFunction>): void {
  for (const fn of [...functions]) {
    if (fn.driver !== null || !fn.present) continue;
    try {
      machine.probe(fn.bdf);
    } catch (error) {
      // The stream of events has the refusal.
      if (!(error instanceof VfioError)) throw error;
    }
  }
}

/**
 * `vendor device [subvendor subdevice class mask data]`, of which the engine uses the first two.
 *
 * @throws VfioError EINVAL
 */
function idIn(text: string): string {
  const [vendor, device, ...more] = text.trim().split(/\s+/);
  const isNumber = (word: string | undefined) => word !== undefined && /^(?:0x)?[0-9a-f]{1,8}$/i.test(word);
  if (!isNumber(vendor) || !isNumber(device) || !more.every(isNumber)) {
    throw new VfioError('EINVAL', `${JSON.stringify(text.slice(0, 40))} is not an id`, {
      fix: 'Write vendor and device in hexadecimal: 8086 10c9.',
    });
  }
  const digits = (word: string) => Number.parseInt(word, 16).toString(16).padStart(4, '0');
  return `${digits(vendor!)}:${digits(device!)}`;
}

/** The files of a driver's directory. */
export function driverAttributes(machine: Machine, driver: string): ReadonlyMap<string, Attribute> {
  return new Map([
    ['bind', action((text) => bind(machine, driver, text))],
    ['unbind', action((text) => unbind(machine, driver, text))],
    [
      'new_id',
      action((text) => {
        machine.drivers.newId(driver, idIn(text));
        offer(machine, machine.functions.values());
      }),
    ],
    ['remove_id', action((text) => machine.drivers.removeId(driver, idIn(text)))],
    ['uevent', action(() => undefined)],
  ]);
}

/** The files of /sys/bus/pci itself. */
export function busAttributes(machine: Machine): ReadonlyMap<string, Attribute> {
  return new Map([
    ['drivers_probe', action((text) => offer(machine, [functionAt(machine, text)]))],
    ['drivers_autoprobe', constant('1\n')],
    // Every device of a machine is found when it is plugged in.
    ['rescan', action((text) => void unsigned(text))],
    ['resource_alignment', constant('\n')],
    ['uevent', action(() => undefined)],
  ]);
}
