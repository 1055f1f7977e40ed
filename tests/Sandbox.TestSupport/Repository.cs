namespace Sandbox.TestSupport;

/// <summary>Finds the checkout that the tests were built from.</summary>
public static class Repository
{
    /// <summary>Its root directory.</summary>
    public static string Root { get; } = Find();

    private static string Find()
    {
        for (var directory = new DirectoryInfo(AppContext.BaseDirectory); directory is not null; directory = directory.Parent)
        {
            if (File.Exists(Path.Combine(directory.FullName, "Sandbox.sln")))
            {
                return directory.FullName;
            }
        }

        throw new DirectoryNotFoundException($"No Sandbox.sln above {AppContext.BaseDirectory}.");
    }
}
