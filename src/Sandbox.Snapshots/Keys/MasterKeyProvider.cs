using System.Security.Cryptography;
using System.Text;

namespace Sandbox.Snapshots.Keys;

/// <summary>Derives every tenant's key (HKDF, SHA-256) from one master key, which must be the same on all hosts of a cluster.</summary>
public sealed class MasterKeyProvider : IKeyProvider
{
    private readonly byte[] _master;

    /// <summary>Takes a master key of at least 32 bytes.</summary>
    /// <exception cref="ArgumentException">It is shorter.</exception>
    public MasterKeyProvider(ReadOnlySpan<byte> master) =>
        _master = master.Length >= IKeyProvider.KeyBytes ? master.ToArray() : throw new ArgumentException($"A master key has at least {IKeyProvider.KeyBytes} bytes, this one {master.Length}.", nameof(master));

    /// <summary>
    /// Reads the master key from a file, or makes a random one there, readable for this user only. Without the file no snapshot can be read: it belongs in the backup, and not beside the snapshots.
    /// </summary>
    /// <exception cref="ArgumentException">The file is too short to be a key.</exception>
    /// <exception cref="IOException">It can be neither read nor made.</exception>
    public static MasterKeyProvider FromFile(string path)
    {
        if (!File.Exists(path))
        {
            var partial = $"{path}.{Environment.ProcessId}.partial";
            try
            {
                using (var file = new FileStream(partial, new FileStreamOptions { Mode = FileMode.Create, Access = FileAccess.Write, UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite }))
                {
                    file.Write(RandomNumberGenerator.GetBytes(IKeyProvider.KeyBytes));
                    file.Flush(flushToDisk: true);
                }

                // The first of two makers wins, and both read what it wrote.
                File.Move(partial, path, overwrite: false);
            }
            catch (IOException) when (File.Exists(path))
            {
                File.Delete(partial);
            }
        }

        return new MasterKeyProvider(File.ReadAllBytes(path));
    }

    /// <summary>A key of 32 bytes for a purpose of the whole cluster, always the same for the same purpose. Says nothing of the master key or of any tenant's.</summary>
    public byte[] Derive(string purpose) => HKDF.DeriveKey(HashAlgorithmName.SHA256, _master, IKeyProvider.KeyBytes, info: Encoding.UTF8.GetBytes(purpose));

    /// <inheritdoc/>
    public ValueTask<byte[]> GetAsync(string tenant, CancellationToken cancellationToken) =>
        ValueTask.FromResult(HKDF.DeriveKey(HashAlgorithmName.SHA256, _master, IKeyProvider.KeyBytes, info: Encoding.UTF8.GetBytes("sandbox snapshots\0" + tenant)));
}
