/**
 * Sizes, rates and times as people read them. Sizes are shown in powers of 1000, as disks are sold.
 */

const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];

/** `512 B`, `64.0 kB`, `10.7 GB`. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 ? value.toFixed(0) : value.toFixed(value < 9.995 ? 2 : 1)} ${units[unit]}`;
}

/** `4 KiB`, `512 B`: for sizes that are powers of two. */
export function formatBinary(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && value % 1024 === 0 && unit < 4) {
    value /= 1024;
    unit++;
  }
  return `${value} ${['B', 'KiB', 'MiB', 'GiB', 'TiB'][unit]}`;
}

/** `312 MB/s`: always in MB/s, so that columns of them can be compared. */
export function formatRate(bytesPerSecond: number): string {
  const mega = bytesPerSecond / 1e6;
  return `${mega.toFixed(mega < 10 ? 1 : 0)} MB/s`;
}

/** `850 ns`, `12.3 µs`, `4.56 ms`, `1.20 s`: of nanoseconds. */
export function formatNanoseconds(ns: number): string {
  if (ns < 1000) return `${ns.toFixed(0)} ns`;
  const [value, unit] = ns < 1e6 ? [ns / 1e3, 'µs'] : ns < 1e9 ? [ns / 1e6, 'ms'] : [ns / 1e9, 's'];
  return `${value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0)} ${unit}`;
}

/** `0:07`, `12:30`, `3:05:00`: of seconds. */
export function formatClock(seconds: number): string {
  const whole = Math.ceil(seconds);
  const two = (value: number) => String(value).padStart(2, '0');
  const minutes = Math.floor(whole / 60);
  return minutes < 60 ? `${minutes}:${two(whole % 60)}` : `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(whole % 60)}`;
}

/** `1,234,567`: whole numbers of any size. */
export function grouped(value: number | bigint): string {
  return String(value).replace(/\B(?=(\d{3})+$)/g, ',');
}
