/** The SMART log with its units, as `nvme smart-log` prints it. @see NVMe 1.4, 5.14.1.2 */
import type { SmartLog } from '../../abi/nvme-structs.ts';
import { formatBytes, grouped } from '../quantities.ts';
import { bitNames, type Row } from './rows.ts';

const warnings = [
  'spare below its threshold',
  'temperature out of its limits',
  'reliability degraded',
  'read only',
  'the volatile memory backup failed',
  'the persistent memory region is read only',
];

const celsius = (kelvin: number) => (kelvin === 0 ? 'not reported' : `${kelvin - 273} °C`);
/** A data unit is a thousand blocks of 512 bytes. */
const units = (count: bigint) => formatBytes(Number(count) * 512_000);

/** Whether the controller says that something is wrong. */
export const isCritical = (log: SmartLog): boolean => log.criticalWarning !== 0;

export function smartRows(log: SmartLog): Row[] {
  return [
    ['critical warning', `0x${log.criticalWarning.toString(16).padStart(2, '0')}`, bitNames(log.criticalWarning, warnings)],
    ['temperature', `${log.compositeTemperature} K`, celsius(log.compositeTemperature)],
    ...log.temperatureSensors.flatMap((kelvin, i): Row[] =>
      kelvin === 0 ? [] : [[`temperature sensor ${i + 1}`, `${kelvin} K`, celsius(kelvin)]],
    ),
    ['available spare', `${log.availableSpare} %`, `threshold ${log.availableSpareThreshold} %`],
    ['percentage used', `${log.percentageUsed} %`, 'of the life that its maker expects'],
    ['data units read', grouped(log.dataUnitsRead), units(log.dataUnitsRead)],
    ['data units written', grouped(log.dataUnitsWritten), units(log.dataUnitsWritten)],
    ['host read commands', grouped(log.hostReadCommands), ''],
    ['host write commands', grouped(log.hostWriteCommands), ''],
    ['controller busy time', grouped(log.controllerBusyTime), 'minutes'],
    ['power cycles', grouped(log.powerCycles), ''],
    ['power on', grouped(log.powerOnHours), 'hours'],
    ['unsafe shutdowns', grouped(log.unsafeShutdowns), ''],
    ['media errors', grouped(log.mediaErrors), ''],
    ['error log entries', grouped(log.errorLogEntries), ''],
    ['warning temperature time', grouped(log.warningTemperatureTime), 'minutes'],
    ['critical temperature time', grouped(log.criticalTemperatureTime), 'minutes'],
  ];
}
