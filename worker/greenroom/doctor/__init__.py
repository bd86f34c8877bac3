"""Why a dispatch does not arrive: each thing on its way is looked at, and what is wrong is said with its mend."""
