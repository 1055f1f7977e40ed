namespace Sandbox.Isolation.Hosting;

/// <summary>
/// User ids for microVMs, each used by one at a time on the whole machine: a slot is taken by locking its file, so two hosts on one machine, or a
/// predecessor that has not quite died, never share one.
/// </summary>
/// <param name="directory">Where the slots' lock files are: one directory for the whole machine.</param>
/// <param name="first">The first user id.</param>
/// <param name="count">User ids of a slot, 1 for a microVM, 65536 for a container with a user namespace.</param>
public sealed class UserIds(string directory, uint first, uint count = 1)
{
    private const int Slots = 4096;

    /// <summary>A user id of one's own until it is disposed.</summary>
    /// <exception cref="Backends.IsolationException">All slots are taken.</exception>
    public Lease Take()
    {
        Directory.CreateDirectory(directory);
        for (var slot = 0; slot < Slots; slot++)
        {
            try
            {
                var file = new FileStream(Path.Combine(directory, $"uid-{slot}"), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
                return new Lease(first + ((uint)slot * count), file);
            }
            catch (IOException)
            {
                // Taken.
            }
        }

        throw new Backends.IsolationException($"All {Slots} user ids for microVMs are in use on this machine.");
    }

    /// <summary>The ids of one slot, from <paramref name="UserId"/> on, held until disposed or until this process ends.</summary>
    public sealed record Lease(uint UserId, FileStream File) : IDisposable
    {
        /// <inheritdoc/>
        public void Dispose() => File.Dispose();
    }
}
