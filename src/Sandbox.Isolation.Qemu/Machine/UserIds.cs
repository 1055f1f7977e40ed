namespace Sandbox.Isolation.Qemu.Machine;

/// <summary>
/// User ids for microVMs, each used by one at a time on the whole machine: a slot is taken by locking its file, so two hosts on one machine, or a
/// predecessor that has not quite died, never share one.
/// </summary>
internal sealed class UserIds(string directory, uint first)
{
    private const int Slots = 4096;

    /// <summary>A user id of one's own until it is disposed.</summary>
    public Lease Take()
    {
        Directory.CreateDirectory(directory);
        for (var slot = 0; slot < Slots; slot++)
        {
            try
            {
                var file = new FileStream(Path.Combine(directory, $"uid-{slot}"), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
                return new Lease(first + (uint)slot, file);
            }
            catch (IOException)
            {
                // Taken.
            }
        }

        throw new Backends.IsolationException($"All {Slots} user ids for microVMs are in use on this machine.");
    }

    public sealed record Lease(uint UserId, FileStream File) : IDisposable
    {
        public void Dispose() => File.Dispose();
    }
}
