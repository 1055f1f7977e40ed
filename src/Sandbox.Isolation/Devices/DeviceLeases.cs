using System.Runtime.InteropServices;
using System.Text.Json;
using Microsoft.Win32.SafeHandles;
using Sandbox.Isolation.Hosting;

namespace Sandbox.Isolation.Devices;

/// <summary>
/// Who has which device of a host, in a file for each device that has ever been leased: written whole beside, made durable, put in place, the directory made durable. Whatever crashes, a device is in one state and has at most one owner.
/// One process at a time changes anything, also where two servers share a machine. A lease that cannot be read counts as taken.
/// </summary>
public sealed partial class DeviceLeases
{
    private const string Suffix = ".json";
    private readonly string _directory;
    private readonly TimeProvider _time;

    /// <param name="directory">Where the files are: one directory for a whole machine, on a disk. Made if it is not there.</param>
    /// <param name="time">The clock.</param>
    public DeviceLeases(string directory, TimeProvider? time = null)
    {
        (_directory, _time) = (directory, time ?? TimeProvider.System);
        Directory.CreateDirectory(directory, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
    }

    /// <summary>All devices that were ever leased, in the order of their addresses. One whose file is damaged is left out here, and never leased.</summary>
    public IReadOnlyList<DeviceLease> List() => [.. Addresses().Select(Read).OfType<DeviceLease>().OrderBy(l => l.Address)];

    /// <summary>Devices whose file is damaged: they count as taken until an operator has looked at it.</summary>
    public IReadOnlyList<PciAddress> Unreadable => [.. Addresses().Where(a => Read(a) is null && File.Exists(PathOf(a))).Order()];

    /// <summary>Takes a device and all that cannot be kept apart from it.</summary>
    /// <param name="device">The device, as the inventory has it now.</param>
    /// <param name="owner">For whom. The same owner may ask again, and gets the same lease.</param>
    /// <param name="cancellationToken">Ends the wait for the turn.</param>
    /// <exception cref="DeviceException">It, or one entangled with it, is not free; it has no IOMMU group or no reset; or the owner's generation is older than one that has been seen.</exception>
    public async Task<DeviceLease> AcquireAsync(HostDevice device, DeviceOwner owner, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(device);
        ArgumentNullException.ThrowIfNull(owner);
        if (device.IommuGroup is null)
        {
            throw new DeviceException($"Device {device.Address} is in no IOMMU group: it could reach all of the host's memory. Switch on the IOMMU in the firmware and the kernel (intel_iommu=on or amd_iommu=on).");
        }

        if (device.ResetMethods.Count == 0)
        {
            throw new DeviceException($"Device {device.Address} cannot be reset by the kernel: it could never be given to anybody else afterwards.");
        }

        using var turn = await TurnAsync(cancellationToken);
        var leases = Addresses().Select(a => (Address: a, Lease: Read(a))).ToList();
        RequireCurrent(owner, leases.Select(l => l.Lease));
        var wanted = device.Entangled;
        foreach (var (address, lease) in leases)
        {
            if (lease is null)
            {
                if (wanted.Contains(address))
                {
                    throw new DeviceException($"The lease of device {address} cannot be read ({PathOf(address)}); it counts as taken until an operator has looked at it.");
                }

                continue;
            }

            if (address == device.Address && lease.State == DeviceState.Leased && lease.Owner == owner)
            {
                return lease;
            }

            if (lease.State != DeviceState.Free && lease.Excludes(device))
            {
                throw new DeviceException($"Device {device.Address} is not free: {Describe(lease, device.Address)}.");
            }
        }

        return Write(new DeviceLease { Address = device.Address, State = DeviceState.Leased, Owner = owner, Entangled = [.. wanted.Order()], ChangedAt = _time.GetUtcNow() });
    }

    /// <summary>Writes down which drivers the devices of a lease's group had, before they are taken away.</summary>
    /// <exception cref="DeviceException">The owner does not have it.</exception>
    public Task<DeviceLease> RememberDriversAsync(PciAddress address, DeviceOwner owner, IReadOnlyDictionary<string, string> drivers, CancellationToken cancellationToken) =>
        ChangeAsync(address, owner, DeviceState.Leased, l => l with { Drivers = drivers }, cancellationToken);

    /// <summary>The owner is done with it. What is already dirty stays so.</summary>
    /// <exception cref="DeviceException">Another one has it: the caller is too late.</exception>
    public async Task<DeviceLease> ReleaseAsync(PciAddress address, DeviceOwner owner, CancellationToken cancellationToken)
    {
        using var turn = await TurnAsync(cancellationToken);
        var lease = Require(address);
        return lease.Owner != owner ? throw new DeviceException($"Device {address} is not {Name(owner)}'s to release: {Describe(lease, address)}.")
            : lease.State == DeviceState.Leased ? Write(lease with { State = DeviceState.Dirty, ChangedAt = _time.GetUtcNow() }) : lease;
    }

    /// <summary>
    /// After a crash: devices of owners that are no more become dirty, and resets that were cut off begin anew. Returns those. Only of owners on one host: whether another server's machines live, and whether it resets something right now, only
    /// that server knows.
    /// </summary>
    /// <param name="hostId">The caller's host.</param>
    /// <param name="isLive">Says whether an owner's machine may live.</param>
    /// <param name="cancellationToken">Ends the wait for the turn.</param>
    public async Task<IReadOnlyList<DeviceLease>> RecoverAsync(string hostId, Func<DeviceOwner, bool> isLive, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(isLive);
        using var turn = await TurnAsync(cancellationToken);
        List<DeviceLease> recovered = [];
        foreach (var lease in List().Where(l => l.Owner.HostId == hostId && (l.State == DeviceState.Resetting || (l.State == DeviceState.Leased && !isLive(l.Owner)))))
        {
            recovered.Add(Write(lease with { State = DeviceState.Dirty, ChangedAt = _time.GetUtcNow() }));
        }

        return recovered;
    }

    /// <summary>A dirty device is about to be reset.</summary>
    /// <param name="address">The device.</param>
    /// <param name="drivers">Drivers that it has now and is to have again, where none were written down: its owner's machine was never started.</param>
    /// <param name="cancellationToken">Ends the wait for the turn.</param>
    /// <exception cref="DeviceException">It is not dirty.</exception>
    public Task<DeviceLease> BeginResetAsync(PciAddress address, IReadOnlyDictionary<string, string> drivers, CancellationToken cancellationToken) =>
        ChangeAsync(address, null, DeviceState.Dirty, l => l with { State = DeviceState.Resetting, Drivers = l.Drivers.Count > 0 ? l.Drivers : drivers }, cancellationToken);

    /// <summary>A reset has ended. Only one that succeeded makes a device free.</summary>
    /// <param name="address">The device.</param>
    /// <param name="problem">Why it failed, or <see langword="null"/>.</param>
    /// <param name="cancellationToken">Ends the wait for the turn.</param>
    /// <exception cref="DeviceException">It was not being reset.</exception>
    public Task<DeviceLease> EndResetAsync(PciAddress address, string? problem, CancellationToken cancellationToken) => ChangeAsync(
        address,
        null,
        DeviceState.Resetting,
        l => problem is null
            ? l with { State = DeviceState.Free, FailedResets = 0, Problem = null, Drivers = new Dictionary<string, string>() }
            : l with { State = DeviceState.Dirty, FailedResets = l.FailedResets + 1, Problem = problem },
        cancellationToken);

    private async Task<DeviceLease> ChangeAsync(PciAddress address, DeviceOwner? owner, DeviceState from, Func<DeviceLease, DeviceLease> change, CancellationToken cancellationToken)
    {
        using var turn = await TurnAsync(cancellationToken);
        var lease = Require(address);
        return lease.State != from || (owner is not null && lease.Owner != owner)
            ? throw new DeviceException($"Device {address} is in another state than expected ({from}{(owner is null ? "" : ", " + Name(owner))}): {Describe(lease, address)}.")
            : Write(change(lease) with { ChangedAt = _time.GetUtcNow() });
    }

    /// <summary>A session's older generation must not take what a newer one may be using: it has been replaced and does not know it.</summary>
    private static void RequireCurrent(DeviceOwner owner, IEnumerable<DeviceLease?> leases)
    {
        if (leases.OfType<DeviceLease>().Where(l => l.Owner.SessionId == owner.SessionId).Select(l => l.Owner.Generation).DefaultIfEmpty(long.MinValue).Max() is var newest && newest > owner.Generation)
        {
            throw new DeviceException($"Session {owner.SessionId} has been taken over (generation {newest}); its generation {owner.Generation} gets no devices any more.");
        }
    }

    private DeviceLease Require(PciAddress address) =>
        Read(address) ?? throw new DeviceException(File.Exists(PathOf(address)) ? $"The lease of device {address} cannot be read ({PathOf(address)})." : $"Device {address} was never leased.");

    private Task<FileStream> TurnAsync(CancellationToken cancellationToken) => ExclusiveFile.AcquireAsync(Path.Combine(_directory, ".lock"), null, cancellationToken);

    private string PathOf(PciAddress address) => Path.Combine(_directory, address + Suffix);

    private IEnumerable<PciAddress> Addresses() =>
        Directory.GetFiles(_directory, "*" + Suffix).Select(f => PciAddress.TryParse(Path.GetFileName(f)[..^Suffix.Length])).OfType<PciAddress>();

    private DeviceLease? Read(PciAddress address)
    {
        try
        {
            var lease = JsonSerializer.Deserialize<DeviceLease>(File.ReadAllBytes(PathOf(address)));
            return lease is not null && lease.Address == address && lease.Owner is not null && lease.Entangled is not null && Enum.IsDefined(lease.State) ? lease : null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or JsonException)
        {
            return null;
        }
    }

    private DeviceLease Write(DeviceLease lease)
    {
        var path = PathOf(lease.Address);
        try
        {
            using (var file = new FileStream(path + ".partial", FileMode.Create, FileAccess.Write))
            {
                file.Write(JsonSerializer.SerializeToUtf8Bytes(lease));
                file.Flush(flushToDisk: true);
            }

            File.Move(path + ".partial", path, overwrite: true);
            SyncDirectory();
            return lease;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new DeviceException($"The lease of device {lease.Address} cannot be written to {path}: {e.Message}", e);
        }
    }

    /// <summary>A rename is durable once its directory is; .NET opens no directories.</summary>
    private void SyncDirectory()
    {
        using var directory = new SafeFileHandle(Open(_directory, 0x90000, 0), ownsHandle: true);
        if (directory.IsInvalid || Sync(directory) != 0)
        {
            throw new IOException($"fsync of {_directory}: {Marshal.GetLastPInvokeErrorMessage()}");
        }
    }

    private static string Describe(DeviceLease lease, PciAddress asked)
    {
        var what = lease.State switch
        {
            DeviceState.Leased => $"{Name(lease.Owner)} has",
            DeviceState.Resetting => "being reset is",
            DeviceState.Dirty => lease.Problem is { } problem ? $"its reset has failed {lease.FailedResets} times ({problem}), so out of use is" : "waiting for a reset is",
            _ => "free is",
        };
        return lease.Address == asked ? $"{what} this device" : $"{what} {lease.Address}, which cannot be kept apart from it";
    }

    private static string Name(DeviceOwner owner) => $"session {owner.SessionId} (generation {owner.Generation}, microVM {owner.VmId})";

    [LibraryImport("libc", EntryPoint = "open", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Open(string path, int flags, int mode);

    [LibraryImport("libc", EntryPoint = "fsync", SetLastError = true)]
    private static partial int Sync(SafeFileHandle file);
}
